"""Boxes scored without classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.errors import UserError
from unidet.evaluation import evaluate_coco, evaluate_proposals, score_boxes
from unidet.evaluation.proposals import box_metric_names, limits_up_to


def _truth() -> dict[str, Any]:
    """Two images with three objects of two classes and a crowd."""
    boxes = [(4, 17, [10, 10, 40, 40]), (8, 3, [5, 5, 50, 60]), (8, 17, [60, 10, 30, 30])]
    annotations = [
        {"id": n, "image_id": i, "category_id": c, "bbox": b} for n, (i, c, b) in enumerate(boxes)
    ]
    annotations.append({"image_id": 4, "category_id": 3, "bbox": [0, 50, 90, 30], "iscrowd": 1})
    return {
        "images": [{"id": i, "width": 100, "height": 80} for i in (4, 8)],
        "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": annotations,
    }


def _rows(*boxes: list[float], score: float | None = None) -> np.ndarray:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    if score is None:
        return corners
    return np.column_stack([corners, np.full(len(corners), score)]).astype(np.float32)


ALL = {4: _rows([10, 10, 40, 40]), 8: _rows([60, 10, 30, 30], [5, 5, 50, 60])}


def test_recall_counts_objects_of_all_classes() -> None:
    scores = evaluate_proposals(_truth(), ALL)
    assert tuple(scores.metrics) == box_metric_names(scored=False)
    assert [scores.metrics[f"AR{n}"] for n in (100, 300, 1000)] == [1, 1, 1]
    assert scores.metrics["ARs"] == 1 and scores.metrics["ARl"] == -1
    head, values = scores.table.splitlines()
    assert head.split()[:2] == ["objects", "AR100"] and values.split()[:2] == ["3", "1.000"]


def test_limits_cut_the_proposals_of_each_image() -> None:
    scores = evaluate_proposals(_truth(), ALL, limits=(1, 2))
    assert scores.metrics["AR1"] == pytest.approx(2 / 3)
    assert scores.metrics["AR2"] == 1
    with pytest.raises(UserError, match=r"rising.*\[2, 1\]"):
        evaluate_proposals(_truth(), ALL, limits=(2, 1))
    assert limits_up_to(1000) == (100, 300, 1000) and limits_up_to(200) == (100, 200)
    assert limits_up_to(50) == (50,)


def test_some_categories_alone() -> None:
    only_dogs = {4: _rows(), 8: _rows([5, 5, 50, 60])}
    truth = _truth()
    assert evaluate_proposals(truth, only_dogs).metrics["AR100"] == pytest.approx(1 / 3)
    assert evaluate_proposals(truth, only_dogs, category_ids=[3]).metrics["AR100"] == 1
    assert evaluate_proposals(truth, only_dogs, category_ids=[17]).metrics["AR100"] == 0
    # What lies on objects of other classes takes places up and is no hit.
    assert evaluate_proposals(truth, ALL, category_ids=[3], limits=(1,)).metrics["AR1"] == 0
    with pytest.raises(UserError, match="Received 5"):
        evaluate_proposals(truth, ALL, category_ids=[5])
    with pytest.raises(UserError, match="Received none"):
        evaluate_proposals(truth, ALL, category_ids=[])


def test_precision_needs_scores() -> None:
    good = {4: _rows([10, 10, 40, 40], score=0.9), 8: _rows([60, 10, 30, 30], score=0.8)}
    scores = evaluate_proposals(_truth(), good)
    assert tuple(scores.metrics) == box_metric_names()
    assert 0.6 < scores.metrics["AP"] < 0.7
    false = {**good, 4: np.concatenate([_rows([70, 0, 9, 9], score=0.95), good[4]])}
    assert evaluate_proposals(_truth(), false).metrics["AP"] < scores.metrics["AP"]


def test_it_is_pycocotools_with_one_class() -> None:
    """The same data with all classes made one give COCO's own numbers."""
    rng = np.random.default_rng(0)
    truth = _truth()
    results = []
    for annotation in truth["annotations"] * 20:
        box = np.abs(np.array(annotation["bbox"]) + rng.normal(0, 3, 4)).tolist()
        results.append({"image_id": annotation["image_id"], "bbox": box, "score": rng.random()})
    found = score_boxes(truth, results, limits=(1, 10, 100)).metrics
    truth["categories"] = [{"id": 3, "name": "object"}]
    for annotation in truth["annotations"]:
        annotation["category_id"] = 3
    plain = evaluate_coco(truth, [{**r, "category_id": 3} for r in results]).metrics
    assert found == pytest.approx(plain, abs=1e-12) and 0 < plain["AP"] < 1


def test_images_have_to_be_those_of_the_truth() -> None:
    with pytest.raises(UserError, match="unknown, the first is 9"):
        evaluate_proposals(_truth(), {**ALL, 9: _rows()})
    with pytest.raises(UserError, match="none for 1, the first is 8"):
        evaluate_proposals(_truth(), {4: ALL[4]})
