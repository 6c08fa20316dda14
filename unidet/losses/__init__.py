"""Losses, written on the backend layer."""

from unidet.losses.box import (
    BOX_LOSSES,
    ciou,
    ciou_loss,
    diou,
    diou_loss,
    giou,
    giou_loss,
    iou_loss,
    l1_loss,
    smooth_l1_loss,
)
from unidet.losses.focal import sigmoid_focal_loss
from unidet.losses.pairwise import PAIRWISE, pairwise_ciou, pairwise_diou, pairwise_giou

__all__ = [
    "BOX_LOSSES",
    "PAIRWISE",
    "ciou",
    "ciou_loss",
    "diou",
    "diou_loss",
    "giou",
    "giou_loss",
    "iou_loss",
    "l1_loss",
    "pairwise_ciou",
    "pairwise_diou",
    "pairwise_giou",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
]
