"""Losses between boxes. All return one value for each row or entry, not reduced."""

from __future__ import annotations

from typing import Any

from unidet.backends import ops

#: Keeps quotients of areas finite (torchvision's value).
EPSILON = 1e-7


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


def _sides(boxes_xyxy: Any) -> tuple[Any, Any, Any]:
    low, high = ops.split(boxes_xyxy, (2, 2), axis=1)
    return low, high, high - low


def _area(sides: Any) -> Any:
    width, height = ops.split(sides, (1, 1), axis=1)
    return width * height  # (n, 1)


def _overlap(a_xyxy: Any, b_xyxy: Any) -> tuple[Any, Any, Any]:
    """IoU and union ``(n, 1)``, sides ``(n, 2)`` of the smallest box around each pair."""
    a_low, a_high, a_sides = _sides(a_xyxy)
    b_low, b_high, b_sides = _sides(b_xyxy)
    shared = _area(ops.relu(ops.minimum(a_high, b_high) - ops.maximum(a_low, b_low)))
    union = _area(a_sides) + _area(b_sides) - shared
    hull = ops.maximum(a_high, b_high) - ops.minimum(a_low, b_low)
    return shared / (union + EPSILON), union, hull


def iou_loss(prediction_xyxy: Any, target_xyxy: Any) -> Any:
    """``1 - IoU`` of each pair of boxes ``(n, 4)``, as ``(n, 1)``."""
    iou, _, _ = _overlap(prediction_xyxy, target_xyxy)
    return 1 - iou


def giou_loss(prediction_xyxy: Any, target_xyxy: Any) -> Any:
    """``1 - GIoU`` (Rezatofighi et al. 2019) of each pair of boxes ``(n, 4)``, as ``(n, 1)``."""
    iou, union, hull = _overlap(prediction_xyxy, target_xyxy)
    area = _area(hull)
    return 1 - iou + (area - union) / (area + EPSILON)


def diou_loss(prediction_xyxy: Any, target_xyxy: Any) -> Any:
    """``1 - DIoU`` (Zheng et al. 2020) of each pair of boxes ``(n, 4)``, as ``(n, 1)``."""
    iou, _, hull = _overlap(prediction_xyxy, target_xyxy)
    a_low, a_high, _ = _sides(prediction_xyxy)
    b_low, b_high, _ = _sides(target_xyxy)
    apart = (a_low + a_high - b_low - b_high) / 2
    distance = ops.sum(apart * apart, axis=1, keepdims=True)
    diagonal = ops.sum(hull * hull, axis=1, keepdims=True)
    return 1 - iou + distance / (diagonal + EPSILON)
