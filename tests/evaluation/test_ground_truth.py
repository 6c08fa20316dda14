"""The ground truth of a results file is read as carefully as that of a training run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unidet.cli.main import main
from unidet.errors import UserError
from unidet.evaluation import evaluate_coco


def truth() -> dict[str, Any]:
    boxes = [[10, 10, 30, 30], [50, 20, 20, 40]]
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 96}],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": i, "bbox": b, "area": 900.0, "iscrowd": 0}
            for i, b in enumerate(boxes, 1)
        ],
    }


def results() -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox")
    return [{**{k: a[k] for k in keys}, "score": 0.9} for a in truth()["annotations"]]


def each(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda t: [a.__setitem__(key, value) for a in t["annotations"]]


def dropped(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda t: [a.pop(key) for a in t["annotations"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: None, dropped("area"), each("area", None), dropped("iscrowd"),
        each("iscrowd", None), each("iscrowd", False), dropped("id"), each("caption", "a dog"),
        lambda t: t["images"][0].pop("file_name"), each("area", 0), each("ignore", 0.0),
    ],
)  # fmt: skip
def test_sound_kinds_are_scored_rightly(
    change: Callable[[dict[str, Any]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = truth()
    change(content)
    assert evaluate_coco(content, results()).metrics["AP"] == pytest.approx(1.0)
    (tmp_path / "t.json").write_text(json.dumps(content), encoding="utf-8-sig")
    (tmp_path / "r.json").write_text(json.dumps(results()), encoding="utf-16")
    words = ["--check-results", str(tmp_path / "r.json"), "--data", str(tmp_path / "t.json")]
    assert main(["eval", *words]) == 0
    assert "maxDets=100 ] = 1.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (each("area", "900"), r"annotations\[0\]: 'area'"),
        (each("area", -1), r"annotations\[0\]: 'area'"),
        (each("area", 10**400), "an integer of 1329 bits"),
        (each("iscrowd", "0"), "'iscrowd' is neither 0 nor 1"),
        (each("iscrowd", []), "'iscrowd'"),
        (each("iscrowd", 2), "'iscrowd'"),
        (each("ignore", "0"), "'ignore'"),
        (dropped("bbox"), "'bbox' is not"),
        (each("bbox", ["1", "2", "3", "4"]), "no number"),
        (each("bbox", [1e308, 0, 1e308, 5]), "larger than any image"),
        (each("bbox", [0, 0, 10**400, 5]), "NaN or infinity"),
        (each("image_id", "1"), "'image_id'"),
        (each("category_id", 99), "'category_id' 99"),
        (each("id", 2**100), "64 bits"),
        (each("id", 7), r"annotations\[1\]: 'id' 7 occurs twice"),
        (lambda t: t["categories"].append({"id": 1, "name": "x"}), "occurs twice"),
        (lambda t: t["categories"][0].pop("name"), "no 'name'"),
        (lambda t: t["images"][0].update(id=[1]), "no integer 'id'"),
        (lambda t: t["images"][0].update(width="128"), "'width' and 'height'"),
        (lambda t: t["annotations"].append(5), "no object"),
        (lambda t: t.update(images=3), "a list under 'images'"),
    ],
)
def test_other_kinds_are_one_line(
    change: Callable[[dict[str, Any]], Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = truth()
    change(content)
    with pytest.raises(UserError, match=message):
        evaluate_coco(content, results())
    (tmp_path / "t.json").write_text(json.dumps(content))
    (tmp_path / "r.json").write_text(json.dumps(results()))
    words = ["--check-results", str(tmp_path / "r.json"), "--data", str(tmp_path / "t.json")]
    assert main(["eval", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "t.json" in error


def test_results_for_other_tasks_do_not_mislead_the_evaluator() -> None:
    captioned = [{**r, "caption": "red", "segmentation": []} for r in results()]
    assert evaluate_coco(truth(), captioned).metrics["AP"] == pytest.approx(1.0)
    for wrong in ({"score": "1"}, {"score": float("nan")}, {"bbox": [1, 2]}):
        with pytest.raises(UserError, match="entry 0"):
            evaluate_coco(truth(), [{**results()[0], **wrong}])
