"""Slow, obvious forms of suppression and matching that judge the kernels."""

from __future__ import annotations

import math

import numpy as np


def iou(a: np.ndarray, b: np.ndarray, extra: float = 0.0) -> np.floating:
    """IoU of two boxes in their own dtype, NaN where undefined.

    ``extra=1`` is the convention of pixel grids, which the kernels must not follow.
    """
    real = a.dtype.type
    with np.errstate(all="ignore"):
        width = np.maximum(np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]) + real(extra), real(0))
        height = np.maximum(np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]) + real(extra), real(0))
        inter = width * height
        return inter / (area(a, extra) + area(b, extra) - inter)


def area(box: np.ndarray, extra: float) -> np.floating:
    real = box.dtype.type
    return (box[2] - box[0] + real(extra)) * (box[3] - box[1] + real(extra))


def falling(scores: np.ndarray) -> list[int]:
    """Indices by falling score, then rising index, NaN last."""
    # A NaN inside the key would make the order of the sort undefined.
    clean = np.where(np.isnan(scores), 0, scores)
    return sorted(range(len(scores)), key=lambda i: (bool(np.isnan(scores[i])), -clean[i], i))


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, extra: float = 0.0) -> list[int]:
    """Every box is compared with every kept box."""
    limit = boxes.dtype.type(threshold)
    kept: list[int] = []
    for i in falling(scores):
        if not any(iou(boxes[k], boxes[i], extra) > limit for k in kept):
            kept.append(i)
    return kept


def batched_nms(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float
) -> list[int]:
    """One class after the other, then everything in the common order."""
    kept: set[int] = set()
    for label in set(classes.tolist()):
        members = np.flatnonzero(classes == label)
        kept |= {int(members[i]) for i in nms(boxes[members], scores[members], threshold)}
    return [i for i in falling(scores) if i in kept]


def match(
    boxes: np.ndarray, objects: np.ndarray, least: float
) -> tuple[list[float], list[int], list[int]]:
    """Every box meets every object; an overlap that is no number is none."""
    table = np.array([[iou(box, one) for one in objects] for box in boxes], boxes.dtype)
    table = np.nan_to_num(table.reshape(len(boxes), len(objects)), nan=0.0)
    best, owner, favourite = [], [], []
    for row in table:
        best.append(max([0.0, *row.tolist()]))
        owner.append(row.tolist().index(best[-1]) if best[-1] > 0 else -1)
        wanted = [
            g
            for g, value in enumerate(row)
            if value == table[:, g].max() and value > 0 and value >= boxes.dtype.type(least)
        ]
        favourite.append(wanted[-1] if wanted else -1)
    return best, owner, favourite


def soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    sigma: float,
    lowest: float,
    method: str,
) -> tuple[list[int], list[float]]:
    """The published loop: take the best, let the others decay, drop what falls too low."""
    real = scores.dtype.type
    left = {i: s for i, s in enumerate(scores) if s >= real(lowest)}
    kept, kept_scores = [], []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        kept.append(best)
        kept_scores.append(left.pop(best))
        for i in list(left):
            overlap = iou(boxes[best], boxes[i])
            if not overlap > 0:
                continue
            if method == "gaussian":
                left[i] = left[i] * real(math.exp(-(float(overlap) * float(overlap)) / sigma))
            elif overlap > real(threshold):
                left[i] = real(-1) if method == "hard" else left[i] * (real(1) - overlap)
            if not left[i] >= real(lowest):
                del left[i]
    return kept, kept_scores
