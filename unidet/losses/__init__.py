"""Losses, written on the backend layer."""

from unidet.losses.box import diou_loss, giou_loss, iou_loss, l1_loss, smooth_l1_loss
from unidet.losses.focal import sigmoid_focal_loss

__all__ = [
    "diou_loss",
    "giou_loss",
    "iou_loss",
    "l1_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
]
