"""The COCO metrics against known figures and at the edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unidet.errors import UserError
from unidet.evaluation import METRIC_NAMES, evaluate_coco


def _scene() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "width": 100, "height": 80}, {"id": 2, "width": 100, "height": 80}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": 0, "image_id": 1, "category_id": 7, "bbox": [10, 10, 40, 40]},
            {"id": 1, "image_id": 2, "category_id": 7, "bbox": [5, 5, 50, 60]},
        ],
    }


def _result(image: int, box: list[float], score: float = 0.9, category: int = 7) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_matches_known_scores_of_coco_sample(sample_data: Path) -> None:
    folder = sample_data / "data" / "coco_eval"
    expected = json.loads((folder / "expected.json").read_text())
    results = json.loads((folder / expected["files"]["dt"]).read_text())
    scores = evaluate_coco(folder / expected["files"]["gt"], results)
    assert scores.metrics == pytest.approx(expected["stats"], abs=1e-6)
    assert len(scores.table.splitlines()) == 12
    assert "= 0.505" in scores.table.splitlines()[0]


def test_matches_known_scores_where_area_is_of_the_box(sample_data: Path) -> None:
    folder = sample_data / "data" / "coco_eval" / "odm_case"
    results = json.loads((folder / "cocoapi_results.json").read_text())
    scores = evaluate_coco(folder / "sampled_gts_bbox_area.json", results)
    assert scores.metrics["AP"] == pytest.approx(0.503647, abs=1e-6)
    assert scores.metrics["AP50"] == pytest.approx(0.696973, abs=1e-6)
    assert scores.metrics["AP75"] == pytest.approx(0.571667, abs=1e-6)


@pytest.mark.parametrize("split", ["train", "val"])
def test_matches_known_scores_of_voc_sample(sample_data: Path, split: str) -> None:
    folder = sample_data / "data" / "voc100"
    expected = json.loads((folder / "detections" / "expected.json").read_text())[split]
    results = json.loads((folder / "detections" / f"results_{split}.json").read_text())
    scores = evaluate_coco(folder / "annotations" / f"instances_{split}.json", results)
    assert list(scores.metrics.values()) == pytest.approx(expected["stats"], abs=1e-6)
    with_objects = [v["AP"] for v in scores.per_class.values() if v["objects"]]
    assert sum(with_objects) / len(with_objects) == pytest.approx(scores.metrics["AP"], abs=1e-9)


def test_perfect_results_score_one() -> None:
    truth = _scene()
    results = [_result(a["image_id"], a["bbox"]) for a in truth["annotations"]]
    scores = evaluate_coco(truth, results)
    assert scores.metrics["AP"] == pytest.approx(1.0)
    assert scores.metrics["APs"] == -1
    assert scores.per_class["cat"]["AP"] == pytest.approx(1.0)
    assert scores.per_class["dog"] == dict.fromkeys(
        ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"), -1.0
    ) | {"objects": 0.0}
    assert "dog" not in scores.class_table()


def test_annotation_with_id_zero_can_be_found() -> None:
    truth = _scene()
    scores = evaluate_coco(truth, [_result(1, [10, 10, 40, 40])], image_ids=[1])
    assert scores.metrics["AP"] == pytest.approx(1.0)
    assert truth["annotations"][0] == _scene()["annotations"][0], "input was changed"


def test_no_results_score_zero_and_absent_sizes_minus_one() -> None:
    scores = evaluate_coco(_scene(), [])
    assert tuple(scores.metrics) == METRIC_NAMES
    assert scores.metrics["AP"] == 0
    assert scores.metrics["AR100"] == 0
    assert scores.metrics["APs"] == -1
    assert len(scores.table.splitlines()) == 12


def test_no_ground_truth_gives_minus_one() -> None:
    scores = evaluate_coco({**_scene(), "annotations": []}, [_result(1, [0, 0, 5, 5])])
    assert set(scores.metrics.values()) == {-1.0}


def test_crowd_absorbs_detections() -> None:
    truth = _scene()
    crowd = {"id": 5, "image_id": 1, "category_id": 7, "bbox": [50, 40, 50, 40], "iscrowd": 1}
    inside = [_result(1, [55.0 + i, 45, 10, 10], 0.99) for i in range(5)]
    good = [_result(a["image_id"], a["bbox"], 0.5) for a in truth["annotations"]]
    without = evaluate_coco(truth, inside + good)
    truth["annotations"].append(crowd)
    assert evaluate_coco(truth, inside + good).metrics["AP"] == pytest.approx(1.0)
    assert without.metrics["AP"] < 0.5


def test_results_are_not_changed() -> None:
    results = [_result(1, [10, 10, 40, 40])]
    evaluate_coco(_scene(), results)
    assert results == [_result(1, [10, 10, 40, 40])]


@pytest.mark.parametrize(
    ("truth", "results", "message"),
    [
        (_scene(), [_result(3, [0, 0, 1, 1])], "unknown, the first is 3"),
        ({"images": []}, [], "a list under 'annotations'"),
        ([], [], "Received a list"),
        ("/does/not/exist.json", [], "exist.json"),
        (
            {**_scene(), "annotations": [{"image_id": 1, "category_id": 7, "area": 3}]},
            [],
            r"annotations\[0\]: 'bbox' is not",
        ),
    ],
)
def test_bad_input_is_explained(truth: Any, results: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_coco(truth, results)
