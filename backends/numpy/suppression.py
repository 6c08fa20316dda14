"""Boxes and non-maximum suppression in plain loops: the judge of kernels and composites."""

from __future__ import annotations

import numpy as np


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    iou = np.zeros((len(a), len(b)), np.result_type(a, b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            iou[i, j] = _iou(one, other)
    return iou


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    width = np.maximum(np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]), 0)
    height = np.maximum(np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]), 0)
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else shared


def _order(scores: np.ndarray) -> np.ndarray:
    # NaN sorts last, and minus keeps it NaN.
    return np.argsort(-scores, kind="stable")


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    return batched_nms(boxes, scores, np.zeros(len(boxes), np.int64), iou_threshold)


def batched_nms(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou_threshold: float
) -> np.ndarray:
    kept: list[int] = []
    for i in _order(scores):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if not any(_iou(boxes[j], boxes[i]) > iou_threshold for j in rivals):
            kept.append(i)
    return np.asarray(kept, np.int64)


def soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[np.ndarray, np.ndarray]:
    left = {i: s for i, s in enumerate(scores) if s >= score_threshold}
    kept, kept_scores = [], []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        kept.append(best)
        kept_scores.append(left.pop(best))
        for i in list(left):
            left[i] = left[i] * _factor(_iou(boxes[best], boxes[i]), iou_threshold, sigma, method)
            if not left[i] >= score_threshold or (method == "hard" and left[i] == 0):
                del left[i]
    return np.asarray(kept, np.int64), np.asarray(kept_scores, scores.dtype)


def _factor(iou: float, threshold: float, sigma: float, method: str) -> float:
    if method == "gaussian":
        return np.exp(-(max(iou, 0) ** 2) / sigma)
    if method not in ("linear", "hard"):
        raise ValueError(
            "Invalid value for `method`. Expected 'linear', 'gaussian' or 'hard'. "
            f"Received {method!r}."
        )
    if not iou > threshold:
        return 1.0
    return 1 - iou if method == "linear" else 0.0
