"""Soft suppression of many classes that share their boxes, as an open vocabulary has them.

One matrix of overlaps serves all classes, and the classes go forward together; what cannot reach
the best ``limit`` any more drops out. So a vocabulary of thousands costs little more than a small
one, while :func:`unidet.backends.kernels.soft_nms` would be called once for each class.
"""

from __future__ import annotations

import numpy as np

from unidet.backends.kernels.fallback import box_areas, decayed, overlaps


def shared_soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    method: str,
    limit: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best of what ``soft_nms`` keeps of each class, all classes together.

    Args:
        boxes: ``(R, 4)`` floating, the same for all classes.
        scores: ``(R, K)`` floating; ``-inf`` leaves a box out of a class.
        iou_threshold, sigma, score_threshold, method: as of ``soft_nms``; "linear" or "gaussian".
        limit: number of (box, class) pairs to keep; None: all.

    Returns:
        Rows ``(n,)`` and classes ``(n,)`` int64 and lowered scores ``(n,)``, by falling score, then
        rising class, then in the order in which they were chosen.

    Raises:
        ValueError: shapes that do not fit, or an unknown method.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape[:1] != boxes.shape[:1]:
        raise ValueError(
            "Invalid value for `scores`. Expected shape (R, K) for boxes of shape (R, 4). "
            f"Received {scores.shape} and {boxes.shape}."
        )
    if method not in ("linear", "gaussian"):
        raise ValueError(
            f"Invalid value for `method`. Expected 'linear' or 'gaussian'. Received {method!r}."
        )
    real = scores.dtype.type
    factors = _factors(boxes.astype(scores.dtype), real(iou_threshold), sigma, method)
    bound = real(score_threshold)
    classes = np.arange(scores.shape[1]) if len(boxes) else np.zeros(0, np.int64)
    left = np.ascontiguousarray(scores.T)
    kept = np.zeros(0, scores.dtype)
    rounds: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while len(classes):
        best = left.argmax(axis=1)
        value = left[np.arange(len(best)), best]
        alive = value >= bound  # false for NaN
        classes, best, value, left = classes[alive], best[alive], value[alive], left[alive]
        rounds.append((best, classes, value))
        kept = np.concatenate([kept, value])
        if limit is not None and len(kept) >= limit:
            # Scores only fall: nothing below the best `limit` so far can still enter.
            kept = np.partition(kept, len(kept) - limit)[len(kept) - limit :]
            bound = max(bound, kept[0])
        with np.errstate(invalid="ignore"):
            left *= factors[best]
        if method == "linear":
            # A box on the same place has the factor 0, which makes NaN of what is out already.
            left[np.isnan(left)] = -np.inf
        left[np.arange(len(best)), best] = -np.inf
    if not rounds:
        rounds = [(np.zeros(0, np.int64), np.zeros(0, np.int64), kept)]
    sizes = [len(part[0]) for part in rounds]
    rows, owners, values = (np.concatenate(part) for part in zip(*rounds))
    turn = np.repeat(np.arange(len(rounds)), sizes)
    order = np.lexsort((turn, owners, -values))[:limit]
    return rows[order].astype(np.int64), owners[order].astype(np.int64), values[order]


def _factors(
    boxes: np.ndarray, iou_threshold: np.floating, sigma: float, method: str
) -> np.ndarray:
    """``(R, R)``: what choosing one box leaves of the score of another."""
    areas = box_areas(boxes)
    ones = np.ones(len(boxes), boxes.dtype)
    zero = boxes.dtype.type(0)
    rows = []
    for box, area in zip(boxes, areas):
        iou = overlaps(box, area, boxes, areas)
        rows.append(decayed(ones, np.where(iou > 0, iou, zero), iou_threshold, sigma, method))
    return np.stack(rows) if rows else np.ones((0, 0), boxes.dtype)
