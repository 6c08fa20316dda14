"""Soft suppression of classes that share boxes, against suppression class by class."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.backends import kernels
from unidet.backends.kernels.shared_soft_nms import shared_soft_nms

SETTINGS = {"iou_threshold": 0.4, "sigma": 0.5, "score_threshold": 1e-2}


def by_class(
    boxes: np.ndarray, scores: np.ndarray, method: str, **settings: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same with one call for each class."""
    rows, labels, values = [], [], []
    for label in range(scores.shape[1]):
        own = np.flatnonzero(scores[:, label] > -np.inf)
        kept, lowered = kernels.soft_nms(
            boxes[own],
            scores[own, label],
            settings["iou_threshold"],
            settings["sigma"],
            settings["score_threshold"],
            method,
        )
        rows.append(own[kept])
        labels.append(np.full(len(kept), label))
        values.append(lowered)
    flat = [np.concatenate(part) for part in (rows, labels, values)]
    order = np.argsort(-flat[2], kind="stable")
    return flat[0][order], flat[1][order], flat[2][order]


def crowded(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], axis=1)
    scores = rng.random((count, classes)).astype(np.float32) ** 3
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    return boxes.astype(np.float32), scores


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("limit", [None, 1, 40, 10**6])
def test_same_as_class_by_class(method: str, limit: int | None) -> None:
    for seed in range(5):
        boxes, scores = crowded(seed, 60, 12)
        expected = by_class(boxes, scores, method, **SETTINGS)
        found = shared_soft_nms(boxes, scores, method=method, limit=limit, **SETTINGS)
        assert len(found[0]) == min(len(expected[0]), limit or 10**9)
        for own, wanted in zip(found[:2], expected[:2]):
            np.testing.assert_array_equal(own, wanted[:limit])
        np.testing.assert_allclose(found[2], expected[2][:limit], rtol=1e-6)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_boxes_on_one_place_leave_the_others_of_their_class(method: str) -> None:
    boxes, scores = crowded(7, 40, 6)
    boxes[1:4] = boxes[0]
    scores[:4] = np.array([0.9, -np.inf, 0.5, -np.inf], np.float32)[:, None]
    expected = by_class(boxes, scores, method, **SETTINGS)
    found = shared_soft_nms(boxes, scores, method=method, **SETTINGS)
    for own, wanted in zip(found[:2], expected[:2]):
        np.testing.assert_array_equal(own, wanted)


def test_equal_scores_go_by_class_then_row() -> None:
    boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]], np.float32)
    scores = np.full((3, 2), 0.5, np.float32)
    rows, classes, _ = shared_soft_nms(boxes, scores, method="gaussian", limit=4, **SETTINGS)
    assert list(zip(rows, classes)) == [(0, 0), (1, 0), (2, 0), (0, 1)]


def test_empty_and_nan() -> None:
    none = np.zeros((0, 4), np.float32)
    for scores in (np.zeros((0, 3), np.float32), np.zeros((0, 0), np.float32)):
        assert len(shared_soft_nms(none, scores, method="linear", **SETTINGS)[0]) == 0
    boxes = np.array([[0, 0, 1, 1]], np.float32)
    nan = np.full((1, 2), np.nan, np.float32)
    assert len(shared_soft_nms(boxes, nan, method="linear", **SETTINGS)[0]) == 0


def test_bad_arguments() -> None:
    boxes, scores = crowded(0, 4, 2)
    with pytest.raises(ValueError, match="`method`"):
        shared_soft_nms(boxes, scores, method="hard", **SETTINGS)
    with pytest.raises(ValueError, match="`scores`"):
        shared_soft_nms(boxes[:2], scores, method="linear", **SETTINGS)
