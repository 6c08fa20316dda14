"""LVIS's metrics against known figures and at the edges."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.cli.main import main
from unidet.data import load_dataset
from unidet.errors import UserError
from unidet.evaluation import evaluate_coco
from unidet.evaluation.lvis import evaluate_lvis, lvis_metric_names

pytest.importorskip("lvis", reason="the package lvis is not installed")


def _truth() -> dict[str, Any]:
    """Two images; cat 1 everywhere, dog 2 searched in vain in the first, bus 3 not searched."""
    images = [
        {"id": 1, "width": 100, "height": 80, "neg_category_ids": [2]},
        {"id": 2, "width": 100, "height": 80, "neg_category_ids": []},
    ]
    boxes = [(1, 1, [10, 10, 40, 40]), (2, 1, [5, 5, 50, 60]), (2, 2, [60, 10, 30, 30])]
    return {
        "images": [{**image, "not_exhaustive_category_ids": []} for image in images],
        "categories": [
            {"id": i, "name": name, "frequency": group}
            for i, name, group in ((1, "cat", "f"), (2, "dog", "c"), (3, "bus", "r"))
        ],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3]}
            for n, (i, c, b) in enumerate(boxes)
        ],
    }


def _result(image: int, category: int, box: list[float], score: float = 0.9) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def _perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    return [_result(a["image_id"], a["category_id"], a["bbox"]) for a in truth["annotations"]]


@pytest.mark.parametrize("limit", [300, 100])
def test_matches_known_scores(sample_data: Path, limit: int) -> None:
    folder = sample_data / "data/lvis"
    expected = json.loads((folder / "expected.json").read_text())
    results = json.loads((folder / expected["dt"]).read_text())
    known = {
        key.split("@")[0] if key.startswith(("ARs", "ARm", "ARl")) else key.replace("@", ""): value
        for key, value in expected[f"max_dets_{limit}"].items()
    }
    dataset = load_dataset(
        {"format": "lvis", "annotations": folder / expected["gt"], "images": folder / "images"}
    )
    for truth in (folder / expected["gt"], dataset.to_coco()):
        scores = evaluate_lvis(truth, results, max_detections=limit)
        assert tuple(scores.metrics) == lvis_metric_names(limit)
        assert scores.metrics == pytest.approx(known, abs=1e-6)
    assert len(scores.table.splitlines()) == 13
    assert f"= {known['AP']:.3f}" in scores.table.splitlines()[0]
    with_objects = [v for v in scores.per_class.values() if v["objects"]]
    mean = np.mean([v["AP"] for v in with_objects])
    assert mean == pytest.approx(known["AP"], abs=1e-9) and len(with_objects) == 190
    assert f"AR{limit}" in scores.class_table().splitlines()[0]


def test_rules_of_coco_would_give_another_number(sample_data: Path) -> None:
    folder = sample_data / "data/lvis"
    expected = json.loads((folder / "expected.json").read_text())
    results = json.loads((folder / expected["dt"]).read_text())
    plain = evaluate_coco(folder / expected["gt"], results).metrics["AP"]
    assert abs(plain - expected["max_dets_300"]["AP"]) > 0.01
    assert abs(plain - expected["max_dets_100"]["AP"]) > 0.01


def test_command_scores_a_results_file(
    sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sample_data / "data/lvis"
    words = ["eval", "--check-results", str(folder / "synthetic_dets_100.json")]
    words += ["--data", str(folder / "lvis_val_100.json"), "--format", "lvis"]
    # One image holds more than LVIS counts, which a server would refuse.
    assert main(words) == 1
    assert "more than 300 in an image: 1" in capsys.readouterr().out
    results = json.loads((folder / "synthetic_dets_100.json").read_text())
    crowded = max({r["image_id"] for r in results}, key=[r["image_id"] for r in results].count)
    kept = sorted((r for r in results if r["image_id"] == crowded), key=lambda r: -r["score"])[:300]
    kept += [r for r in results if r["image_id"] != crowded]
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    words[2] = str(tmp_path / "kept.json")
    assert main([*words, "--json", str(tmp_path / "m.json")]) == 0
    assert "catIds=  r] = 0.200" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "m.json").read_text())["metrics"]
    expected = json.loads((folder / "expected.json").read_text())["max_dets_300"]
    assert metrics["AP"] == pytest.approx(expected["AP"], abs=1e-6)
    assert metrics["AR300"] == pytest.approx(expected["AR@300"], abs=1e-6)


def test_what_was_not_searched_does_not_count() -> None:
    truth = _truth()
    good = _perfect(truth)
    assert evaluate_lvis(truth, good).metrics["AP"] == pytest.approx(1.0)
    unknown = [_result(1, 3, [0, 0, 20, 20], 0.99), _result(2, 3, [0, 0, 20, 20], 0.99)]
    assert evaluate_lvis(truth, good + unknown).metrics["AP"] == pytest.approx(1.0)
    searched = [_result(1, 2, [0, 0, 20, 20], 0.99)]
    assert evaluate_lvis(truth, good + searched).metrics["APc"] < 0.6
    truth["images"][0]["not_exhaustive_category_ids"] = [2]
    assert evaluate_lvis(truth, good + searched).metrics["APc"] == pytest.approx(1.0)
    assert evaluate_lvis(truth, good).metrics["APr"] == -1


def test_images_that_count_and_no_results() -> None:
    truth = _truth()
    first = [r for r in _perfect(truth) if r["image_id"] == 1]
    assert evaluate_lvis(truth, first, image_ids=[1]).metrics["AP"] == pytest.approx(1.0)
    assert evaluate_lvis(truth, first).metrics["AP"] < 0.6
    nothing = evaluate_lvis(truth, [])
    assert nothing.metrics["AP"] == 0 and nothing.metrics["AR300"] == 0
    best = [_result(1, 1, [0, 0, 5, 5], 0.95), *_perfect(truth)]
    assert evaluate_lvis(truth, best, max_detections=1).metrics["AR1"] < 0.5
    assert "_ignore" not in truth["annotations"][0], "input was changed"


def test_numpy_and_logging_stay_as_they_were() -> None:
    evaluate_lvis(_truth(), _perfect(_truth()))
    assert logging.getLogger("lvis").level == logging.NOTSET
    code = (
        "import logging, numpy as np\n"
        "from unidet.evaluation.lvis import _package\n"
        "before = dict(vars(np))\n"
        "lvis = _package()\n"
        "assert lvis.eval.np.float is float and lvis.eval.np.zeros is np.zeros\n"
        "assert vars(np).get('float') is before.get('float')\n"
        "assert not logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t["images"][1].pop("neg_category_ids"), "'neg_category_ids'.*image 2"),
        (lambda t: t["images"][0].pop("not_exhaustive_category_ids"), "image 1"),
        (lambda t: t["categories"][2].update(frequency="x"), "'x' in 'bus'"),
    ],
)
def test_other_data_are_refused(spoil: Any, message: str) -> None:
    truth = _truth()
    spoil(truth)
    with pytest.raises(UserError, match=message):
        evaluate_lvis(truth, [])
    with pytest.raises(UserError, match="unknown, the first is 9"):
        evaluate_lvis(_truth(), [_result(9, 1, [0, 0, 1, 1])])
