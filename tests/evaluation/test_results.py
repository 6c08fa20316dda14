"""Results files: writing, reading, checking."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from unidet.errors import UserError
from unidet.evaluation import check_results, read_results, write_results

TRUTH = {
    "images": [{"id": 1, "width": 100, "height": 80}, {"id": 2}],
    "categories": [{"id": 7, "name": "cat"}],
}


def _result(**changes: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40.5], "score": 0.5} | changes


def test_good_results_pass() -> None:
    report = check_results([_result(), _result(image_id=2, score=1)], TRUTH)
    assert report.ok
    assert (report.count, report.images) == (2, 2)
    assert report.text().endswith("OK")


def test_empty_list_is_valid() -> None:
    assert check_results([], TRUTH).ok


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"image_id": 1, "bbox": [1, 2, 3, 4]}, "missing keys"),
        (_result(image_id=3), "unknown image ids"),
        (_result(image_id="1.jpg"), "unknown image ids"),
        (_result(image_id=True), "image_id not an integer"),
        (_result(image_id=[1]), "image_id not an integer"),
        (_result(category_id=1), "unknown category ids"),
        (_result(category_id=7.0), "category_id not an integer"),
        (_result(score=math.nan), "NaN or infinite"),
        (_result(score=1.01), "scores outside [0, 1]"),
        (_result(score=-0.1), "scores outside [0, 1]"),
        (_result(score="0.5"), "score not a number"),
        (_result(bbox=[1, 2, math.inf, 4]), "NaN or infinite"),
        (_result(bbox=[1, 2, -3, 4]), "negative sizes"),
        (_result(bbox=[1, 2, 3]), "bbox not four numbers"),
        (_result(bbox="1 2 3 4"), "bbox not four numbers"),
        (_result(bbox=[101, 2, 3, 4]), "boxes outside the image"),
        ("text", "not an object"),
    ],
)
def test_each_defect_is_named(entry: Any, kind: str) -> None:
    report = check_results([_result(score=0.25), entry], TRUTH)
    assert list(report.problems) == [kind]
    assert "entry 1" in report.problems[kind][0]
    assert report.text().endswith("NOT VALID")


def test_object_in_place_of_list() -> None:
    assert list(check_results({"annotations": []}, TRUTH).problems) == ["not a list"]


def test_too_many_in_an_image() -> None:
    results = [_result(score=i / 200) for i in range(101)]
    assert check_results(results[:100], TRUTH).ok
    report = check_results(results, TRUTH)
    assert report.problems == {"more than 100 in an image": ["image 1: 101"]}


def test_repeated_entries_and_short_summary() -> None:
    report = check_results([_result()] * 9, TRUTH)
    assert len(report.problems["repeated entries"]) == 8
    assert "and 5 more" in report.text()


def test_written_results_come_back(tmp_path: Path) -> None:
    results = [_result(), _result(score=0.1234567890123)]
    path = write_results(tmp_path / "new" / "results.json", results)
    assert read_results(path) == results
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_results(tmp_path / "results.json", [_result()])
    with pytest.raises(UserError, match="NaN"):
        write_results(path, [_result(score=math.nan)])
    assert json.loads(path.read_text()) == [_result()]
    assert len(list(tmp_path.iterdir())) == 1


def test_unreadable_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(UserError, match=r"not JSON: .*broken\.json"):
        read_results(tmp_path / "broken.json")
    with pytest.raises(UserError, match=r"absent\.json"):
        read_results(tmp_path / "absent.json")
