"""Measures of difference between two sides."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from unidet.certificate.certificate import (
    DetectionMatch,
    GradientDifference,
    TensorDifference,
    Thresholds,
)
from unidet.structures import Detections

_SAME_IOU = 0.99
_SAME_CORNERS = 0.05
_NEGLIGIBLE = 1e-6


def sha256(array: np.ndarray) -> str:
    """SHA-256 of the little-endian C-order bytes of an array."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def tensor_difference(
    name: str, reference: np.ndarray, candidate: np.ndarray, tolerance: float, relative: bool
) -> TensorDifference:
    """Largest and mean difference of two arrays.

    Args:
        name: of the layer or output.
        reference: array of the first side.
        candidate: array of the second side.
        tolerance: limit of the largest difference; integers and booleans have to be equal.
        relative: the limit is a fraction of the largest magnitude of the reference.
    """
    shape = tuple(reference.shape)
    if reference.shape != candidate.shape:
        note = f"shape {tuple(candidate.shape)} in place of {shape}"
        return TensorDifference(name, shape, math.inf, math.inf, 0.0, tolerance, note)
    if not reference.size:
        return TensorDifference(name, shape, 0.0, 0.0, 0.0, tolerance)
    if reference.dtype.kind not in "fc":
        gap = reference.astype(np.int64) != candidate.astype(np.int64)
        share = float(gap.mean())
        note = f"{share:.2%} of the entries differ" if share else ""
        return TensorDifference(name, shape, float(gap.any()), share, 1.0, 0.0, note)
    left, right = reference.astype(np.float64), candidate.astype(np.float64)
    finite = np.isfinite(left) & np.isfinite(right)
    same = finite | (left == right) | (np.isnan(left) & np.isnan(right))
    scale = float(np.abs(left[finite]).max()) if finite.any() else 0.0
    if relative:
        # A layer whose answer is zero up to rounding has no scale to speak of.
        tolerance = tolerance * max(scale, 1e-6)
    if not same.all():
        note = f"{(~same).sum()} entries are NaN or infinite on one side alone"
        return TensorDifference(name, shape, math.inf, math.inf, scale, tolerance, note)
    gap = np.abs(left[finite] - right[finite])
    largest, mean = (float(gap.max()), float(gap.mean())) if gap.size else (0.0, 0.0)
    return TensorDifference(name, shape, largest, mean, scale, tolerance)


def output_tolerance(name: str, reference: np.ndarray, thresholds: Thresholds) -> float:
    """Limit for a raw output: pixels or shares of the image for boxes, else that of logits."""
    if "boxes_cxcywh" in name:
        return thresholds.shares
    if "boxes" in name or "proposals" in name:
        return thresholds.boxes
    if reference.dtype.kind != "f" or not reference.size:
        return thresholds.logits
    finite = np.abs(reference[np.isfinite(reference)])
    return thresholds.logits * max(1.0, float(finite.max(initial=0.0)) / 10)


def gradient_difference(
    name: str,
    reference: np.ndarray,
    candidate: np.ndarray,
    total_norm: float,
    thresholds: Thresholds,
) -> GradientDifference:
    """Direction and length of two gradients of one parameter.

    Args:
        name: of the parameter.
        reference: gradient of the first side.
        candidate: gradient of the second side.
        total_norm: length of the whole gradient of the reference, to tell noise from signal.
        thresholds: limits.
    """
    left = reference.astype(np.float64).ravel()
    right = candidate.astype(np.float64).ravel()
    norm, other = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    if left.shape != right.shape or not math.isfinite(norm + other):
        return GradientDifference(name, -1.0, norm, math.inf, False, False)
    product = norm * other
    same = norm == other == 0
    cosine = 1.0 if same else float(left @ right) / product if product else 0.0
    change = abs(norm - other) / norm if norm else float(other > 0)
    good = cosine >= thresholds.cosine and change <= thresholds.gradient_norm
    noise = not good and float(np.linalg.norm(left - right)) <= _NEGLIGIBLE * total_norm
    return GradientDifference(name, cosine, norm, change, noise, good or noise)


def match_detections(
    image: int, reference: Detections, candidate: Detections, thresholds: Thresholds
) -> DetectionMatch:
    """Pairs the kept detections of an image regardless of their order.

    A pair has the same label and either an IoU above 0.99 or corners within 0.05 pixels. Pairs
    are taken from the closest to the farthest. What is left over is excused when its score lies
    within the threshold of the lowest kept score of its side and the counts agree: equal scores
    at the cut leave the choice to chance.
    """
    pairs = _pairs(reference, candidate)
    left = np.setdiff1d(np.arange(len(reference)), [i for i, _ in pairs])
    right = np.setdiff1d(np.arange(len(candidate)), [j for _, j in pairs])
    max_box = max_score = 0.0
    for i, j in pairs:
        gap = np.abs(reference.boxes_xyxy[i] - candidate.boxes_xyxy[j])
        max_box = max(max_box, float(gap.max()))
        max_score = max(max_score, abs(float(reference.scores[i]) - float(candidate.scores[j])))
    excused = len(left) == len(right) and all(
        side.scores[k] - side.scores.min() <= thresholds.scores
        for side, rest in ((reference, left), (candidate, right))
        for k in rest
    )
    ok = excused and max_box <= thresholds.boxes and max_score <= thresholds.scores
    tied = len(left) + len(right) if excused else 0
    return DetectionMatch(
        image, len(reference), len(candidate), len(pairs), tied, max_box, max_score, ok
    )


def _pairs(reference: Detections, candidate: Detections) -> list[tuple[int, int]]:
    """Index pairs, one to one, the closest first."""
    if not len(reference) or not len(candidate):
        return []
    a, b = (side.boxes_xyxy.astype(np.float64) for side in (reference, candidate))
    corners = np.abs(a[:, None] - b[None]).max(axis=2)
    close = (corners <= _SAME_CORNERS) | (_iou(a, b) > _SAME_IOU)
    close &= reference.labels[:, None] == candidate.labels[None]
    rows, columns = np.nonzero(close)
    scores = np.abs(reference.scores[rows] - candidate.scores[columns])
    # Boxes of equal place (duplicates) are told apart by their scores.
    order = np.lexsort((scores, np.round(corners[rows, columns], 2)))
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    pairs = []
    for k in order.tolist():
        i, j = int(rows[k]), int(columns[k])
        if i not in taken_rows and j not in taken_columns:
            taken_rows.add(i)
            taken_columns.add(j)
            pairs.append((i, j))
    return pairs


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    union = area_a[:, None] + area_b[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
