"""Boxes: rows ``x1, y1, x2, y2`` in any unit, without the "+1" of pixel grids."""

from __future__ import annotations

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor


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
