"""NumPy forms of :mod:`unidet.backends.kernels`, for machines without the compiled library.

Arguments have been checked and converted by that module. Every arithmetic step has the dtype and
the order of the C++ source, so the results are the same to the last bit (gaussian soft-NMS in
float64: to the last place of the exponential).
"""

from __future__ import annotations

import numpy as np


def falling_order(scores: np.ndarray) -> np.ndarray:
    """``(n,)`` indices by falling score, then rising index; NaN last."""
    return np.argsort(-scores, kind="stable")


def overlaps(box: np.ndarray, area: np.ndarray, boxes: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """IoU of one ``(4,)`` box with ``(n, 4)`` boxes; NaN where it is undefined."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        corner = np.maximum(box[:2], boxes[:, :2])
        sides = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - corner, boxes.dtype.type(0))
        inter = sides[:, 0] * sides[:, 1]
        return inter / (area + areas - inter)


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """``(n,)`` areas, negative where exactly one side is inverted."""
    with np.errstate(invalid="ignore", over="ignore"):
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """See :func:`unidet.backends.kernels.nms`."""
    return _suppress(boxes, falling_order(scores), threshold)


def _suppress(boxes: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    limit = boxes.dtype.type(threshold)
    areas = box_areas(boxes)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        iou = overlaps(boxes[best], areas[best], boxes[order], areas[order])
        order = order[~(iou > limit)]
    return np.asarray(kept, np.int64)


def batched_nms(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float
) -> np.ndarray:
    """See :func:`unidet.backends.kernels.batched_nms`."""
    order = falling_order(scores)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    kept = [
        _suppress(boxes, order[classes[order] == label], threshold) for label in np.unique(classes)
    ]
    found = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return found[np.argsort(rank[found])].astype(np.int64)


def soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    sigma: float,
    score_threshold: float,
    method: str,
) -> tuple[np.ndarray, np.ndarray]:
    """See :func:`unidet.backends.kernels.soft_nms`."""
    real = scores.dtype.type
    lowest = real(score_threshold)
    areas = box_areas(boxes)
    index = np.flatnonzero(scores >= lowest)
    left = scores[index].copy()
    kept, kept_scores = [], []
    while len(index):
        best = int(np.argmax(left))
        chosen = index[best]
        kept.append(chosen)
        kept_scores.append(left[best])
        index, left = np.delete(index, best), np.delete(left, best)
        iou = overlaps(boxes[chosen], areas[chosen], boxes[index], areas[index])
        left = decayed(left, np.where(iou > 0, iou, real(0)), real(threshold), sigma, method)
        alive = left >= lowest
        index, left = index[alive], left[alive]
    return np.asarray(kept, np.int64), np.asarray(kept_scores, scores.dtype)


def decayed(
    scores: np.ndarray, iou: np.ndarray, threshold: np.floating, sigma: float, method: str
) -> np.ndarray:
    """Scores after meeting a kept box with these overlaps."""
    if method == "gaussian":
        wide = iou.astype(np.float64)
        return scores * np.exp(-(wide * wide) / sigma).astype(scores.dtype)
    if method == "linear":
        return np.where(iou > threshold, scores * (scores.dtype.type(1) - iou), scores)
    return np.where(iou > threshold, scores.dtype.type(-np.inf), scores)


def match(
    boxes: np.ndarray, objects: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See :func:`unidet.backends.kernels.match`."""
    areas, own = box_areas(boxes), box_areas(objects)
    best = np.zeros(len(boxes), boxes.dtype)
    owner = np.full(len(boxes), -1, np.int64)
    favourite = np.full(len(boxes), -1, np.int64)
    # One object at a time: memory stays at a few numbers for each box.
    for index, (box, area) in enumerate(zip(objects, own)):
        iou = overlaps(box, area, boxes, areas)
        better = iou > best
        best[better], owner[better] = iou[better], index
        highest = np.fmax.reduce(iou, initial=0)
        if highest > 0 and highest >= boxes.dtype.type(least):
            favourite[iou == highest] = index
    return best, owner, favourite
