"""Boxes: rows ``x1, y1, x2, y2`` in any unit, without the "+1" of pixel grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor

__all__ = ["box_iou", "nms", "batched_nms", "soft_nms", "roi_align", "roi_align_levels"]


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """``(n, m)`` intersection over union of ``(n, 4)`` and ``(m, 4)`` boxes.

    0 where the union has no area. Differentiable in both.
    """
    return IMPLEMENTATION[type(a)].box_iou(a, b)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression; a box goes when its IoU with a kept one *exceeds* the limit.

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``; NaN sorts last.
        iou_threshold: in [0, 1].

    Returns:
        int64 indices of the kept boxes by falling score, then rising index.
    """
    return IMPLEMENTATION[type(boxes)].nms(boxes, scores, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    """:func:`nms` within each class; ``classes`` are ``(n,)`` integers.

    Returns:
        int64 indices of all classes by falling score, then rising index.
    """
    return IMPLEMENTATION[type(boxes)].batched_nms(boxes, scores, classes, iou_threshold)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[Tensor, Tensor]:
    """Soft non-maximum suppression (Bodla et al., ICCV 2017).

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        iou_threshold: overlap from which "linear" and "hard" act.
        sigma: width of "gaussian".
        score_threshold: boxes whose score is not at least this are dropped.
        method: "linear" (times ``1 - iou``), "gaussian" (times ``exp(-iou^2 / sigma)``) or "hard".

    Returns:
        int64 indices in the order of selection and the lowered scores.
    """
    return IMPLEMENTATION[type(boxes)].soft_nms(
        boxes, scores, iou_threshold, sigma, score_threshold, method
    )


def roi_align(
    features: Tensor,
    boxes: Tensor | np.ndarray,
    indices: Tensor | np.ndarray,
    size: int | tuple[int, int],
    *,
    scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Means of bilinear samples in a grid of cells over each box (He et al., ICCV 2017).

    A sample more than one pixel outside the map counts as 0, one closer is moved to the edge. On
    torch the result has the memory layout of the map. Deterministic on the CPU, backward too.

    Args:
        features: ``(N, C, H, W)``; the only differentiable argument.
        boxes: ``(R, 4)`` in pixels of the input, finite.
        indices: ``(R,)`` integers, the image of each box.
        size: rows and columns of cells, one number or ``(rows, columns)``.
        scale: pixels of the map per pixel of the input, such as 1/16.
        sampling_ratio: samples along each side of a cell; 0: as many as the cell is pixels long.
        aligned: pixel centres lie at half coordinates, as they should. False is the first
            published form, which also takes no side for shorter than one pixel of the map.

    Returns:
        ``(R, C, rows, columns)``.

    Raises:
        TypeError: ``indices`` are not integers.
        ValueError: a shape or a number does not fit, a box is not finite, an image does not exist.
    """
    return IMPLEMENTATION[type(features)].roi_align(
        features, boxes, indices, size, scale=scale, sampling_ratio=sampling_ratio, aligned=aligned
    )


def roi_align_levels(
    features: Sequence[Tensor],
    boxes: Tensor | np.ndarray,
    indices: Tensor | np.ndarray,
    levels: Tensor | np.ndarray,
    size: int | tuple[int, int],
    *,
    scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """:func:`roi_align` over a pyramid, where each box reads one map.

    Args:
        features: maps ``(N, C, H_l, W_l)``.
        levels: ``(R,)`` integers, the map of each box.
        scales: pixels of each map per pixel of the input.

    Returns:
        ``(R, C, rows, columns)`` in the order of the boxes.

    Raises:
        TypeError: ``indices`` or ``levels`` are not integers.
        ValueError: as for :func:`roi_align`, or a map does not exist.
    """
    return IMPLEMENTATION[type(features[0])].roi_align_levels(
        features, boxes, indices, levels, size,
        scales=scales, sampling_ratio=sampling_ratio, aligned=aligned,
    )  # fmt: skip
