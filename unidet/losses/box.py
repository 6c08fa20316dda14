"""Losses between boxes. All return one value for each row or entry, not reduced."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from unidet.backends import ops

#: Added to denominators, so that quotients are finite (value of torchvision and detectron2).
EPSILON = 1e-7
#: Exact quotients count smaller denominators as 0: Jittor squares them, which must not give 0.
TINY = 1e-18


def l1_loss(prediction: Any, target: Any) -> Any:
    """Absolute difference of each entry."""
    return ops.abs(prediction - target)


def smooth_l1_loss(prediction: Any, target: Any, beta: float = 1 / 9) -> Any:
    """Square below ``beta``, line above (Girshick 2015); ``beta=0`` is :func:`l1_loss`.

    Raises:
        ValueError: ``beta`` is negative.
    """
    if beta < 0:
        raise ValueError(f"Invalid value for `beta`. Expected 0 or more. Received {beta}.")
    if beta == 0:
        return l1_loss(prediction, target)
    return ops.smooth_l1(prediction, target, beta)


def _quotient(part: Any, whole: Any, eps: float) -> Any:
    """``part / (whole + eps)``; without ``eps``, ``part`` where ``whole`` is 0 (0, for areas)."""
    if eps < 0:
        raise ValueError(f"Invalid value for `eps`. Expected 0 or more. Received {eps}.")
    return part / (whole + eps if eps else ops.where(whole > TINY, whole, 1.0))


def _sides(boxes_xyxy: Any) -> tuple[Any, Any, Any]:
    low, high = ops.split(boxes_xyxy, (2, 2), axis=1)
    return low, high, high - low


def _area(sides: Any) -> Any:
    width, height = ops.split(sides, (1, 1), axis=1)
    return width * height  # (n, 1)


def _overlap(a_xyxy: Any, b_xyxy: Any, eps: float) -> tuple[Any, Any, Any]:
    """IoU and union ``(n, 1)``, sides ``(n, 2)`` of the smallest box around each pair."""
    a_low, a_high, a_sides = _sides(a_xyxy)
    b_low, b_high, b_sides = _sides(b_xyxy)
    shared = _area(ops.relu(ops.minimum(a_high, b_high) - ops.maximum(a_low, b_low)))
    union = _area(a_sides) + _area(b_sides) - shared
    hull = ops.maximum(a_high, b_high) - ops.minimum(a_low, b_low)
    return _quotient(shared, union, eps), union, hull


def giou(a_xyxy: Any, b_xyxy: Any, *, eps: float = EPSILON) -> Any:
    """``IoU - (C - U) / C`` with the union U and the area C of the smallest box around both.

    Rezatofighi et al. 2019. Arguments as in :func:`ciou`.
    """
    iou, union, hull = _overlap(a_xyxy, b_xyxy, eps)
    area = _area(hull)
    return iou - _quotient(area - union, area, eps)


def diou(a_xyxy: Any, b_xyxy: Any, *, eps: float = EPSILON) -> Any:
    """``IoU - d^2 / c^2``: distance of the centres and diagonal of the smallest box around both.

    Zheng et al. 2020. Arguments as in :func:`ciou`.
    """
    iou, _, hull = _overlap(a_xyxy, b_xyxy, eps)
    return iou - _distance(a_xyxy, b_xyxy, hull, eps)


def ciou(a_xyxy: Any, b_xyxy: Any, *, eps: float = EPSILON, gate: bool = False) -> Any:
    """DIoU less ``alpha v``, where ``v`` compares the aspect ratios (Zheng et al. 2020).

    ``v = 4 / pi^2 (atan(w_b / h_b) - atan(w_a / h_a))^2`` and ``alpha = v / (1 - IoU + v)``, a
    constant for the gradient. The ratios need no ``eps`` (mmdetection adds its own to the heights,
    which moves the result by less than 1e-6).

    Args:
        a_xyxy: ``(n, 4)`` boxes in pixels or any other unit.
        b_xyxy: ``(n, 4)``, in the same unit.
        eps: added to each denominator. 0 gives the exact quotients of Facebook's DETR, those of
            boxes without area being 0.
        gate: ``alpha`` is 0 where IoU is at most 0.5 (mmdetection 2.18); torchvision and
            detectron2 have no such rule.

    Returns:
        ``(n, 1)``, finite for any finite boxes whose squares are.

    Raises:
        ValueError: negative ``eps``.
    """
    iou, _, hull = _overlap(a_xyxy, b_xyxy, eps)
    turn = _angle(b_xyxy) - _angle(a_xyxy)
    v = turn * turn * (4 / math.pi**2)
    alpha = _quotient(v, 1 - iou + v, eps)
    if gate:
        alpha = ops.where(iou > 0.5, alpha, 0.0)
    return iou - _distance(a_xyxy, b_xyxy, hull, eps) - ops.detach(alpha) * v


def _distance(a_xyxy: Any, b_xyxy: Any, hull: Any, eps: float) -> Any:
    """Squared distance of the centres over the squared diagonal of ``hull``."""
    a_low, a_high, _ = _sides(a_xyxy)
    b_low, b_high, _ = _sides(b_xyxy)
    apart = (a_low + a_high - b_low - b_high) / 2
    distance = ops.sum(apart * apart, axis=1, keepdims=True)
    return _quotient(distance, ops.sum(hull * hull, axis=1, keepdims=True), eps)


def _angle(boxes_xyxy: Any) -> Any:
    """``atan(width / height)`` as ``(n, 1)``, for heights of 0 too; 0 for points."""
    width, height = ops.split(_sides(boxes_xyxy)[2], (1, 1), axis=1)
    wide = width > height
    # The smaller side over the larger, so that no denominator is 0.
    angle = ops.arctan(
        _quotient(ops.where(wide, height, width), ops.where(wide, width, height), 0.0)
    )
    return ops.where(wide, math.pi / 2 - angle, angle)


def iou_loss(prediction_xyxy: Any, target_xyxy: Any) -> Any:
    """``1 - IoU`` of each pair of boxes ``(n, 4)``, as ``(n, 1)``."""
    iou, _, _ = _overlap(prediction_xyxy, target_xyxy, EPSILON)
    return 1 - iou


def giou_loss(prediction_xyxy: Any, target_xyxy: Any, *, eps: float = EPSILON) -> Any:
    """``1 - GIoU`` of each pair of boxes ``(n, 4)``, as ``(n, 1)``; see :func:`giou`."""
    return 1 - giou(prediction_xyxy, target_xyxy, eps=eps)


def diou_loss(prediction_xyxy: Any, target_xyxy: Any, *, eps: float = EPSILON) -> Any:
    """``1 - DIoU`` of each pair of boxes ``(n, 4)``, as ``(n, 1)``; see :func:`diou`."""
    return 1 - diou(prediction_xyxy, target_xyxy, eps=eps)


def ciou_loss(
    prediction_xyxy: Any, target_xyxy: Any, *, eps: float = EPSILON, gate: bool = False
) -> Any:
    """``1 - CIoU`` of each pair of boxes ``(n, 4)``, as ``(n, 1)``; see :func:`ciou`."""
    return 1 - ciou(prediction_xyxy, target_xyxy, eps=eps, gate=gate)


#: Losses that compare boxes ``(n, 4)`` in corner form, by the name that configs give them.
BOX_LOSSES: dict[str, Callable[..., Any]] = {
    "giou": giou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
}
