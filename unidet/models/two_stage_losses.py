"""Losses that both stages of Faster R-CNN share."""

from __future__ import annotations

from typing import Any

from unidet.backends import ops
from unidet.losses import giou_loss, l1_loss, smooth_l1_loss
from unidet.models.box_coder import BoxCoder
from unidet.models.two_stage_targets import BoxGoals


def weighted_box_loss(deltas: Any, goal: BoxGoals, kind: str, beta: float, coder: BoxCoder) -> Any:
    """Sum of the weighted losses of chosen boxes, a scalar tensor.

    Args:
        deltas: tensor whose last axis is flattened into rows of four.
        goal: which rows, and what they shall be.
        kind: ``"l1"``, ``"smooth_l1"`` (both on deltas) or ``"giou"`` (on boxes).
        beta: of smooth L1.
        coder: decodes boxes for ``"giou"``.
    """
    chosen = ops.take(ops.reshape(deltas, (-1, 4)), goal.index, axis=0)
    if kind == "giou":
        boxes = coder.decode(chosen, goal.anchors)
        loss = giou_loss(boxes, ops.asarray(goal.boxes, like=deltas))
    else:
        wanted = ops.asarray(goal.deltas, like=deltas)
        l1 = kind == "l1"
        loss = l1_loss(chosen, wanted) if l1 else smooth_l1_loss(chosen, wanted, beta)
    return ops.sum(loss * ops.asarray(goal.weights[:, None], like=deltas))
