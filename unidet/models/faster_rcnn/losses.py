"""Losses that both stages of Faster R-CNN share."""

from __future__ import annotations

from typing import Any

from unidet.backends import ops
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.regression import regression_loss
from unidet.models.boxes.targets import BoxTargets


def weighted_box_loss(
    deltas: Any, goal: BoxTargets, kind: str, beta: float, coder: BoxCoder
) -> Any:
    """Sum of the weighted losses of chosen boxes, a scalar tensor.

    Args:
        deltas: tensor whose last axis is flattened into rows of four.
        goal: which rows, and their targets.
        kind, beta, coder: see :func:`unidet.models.boxes.regression.regression_loss`.
    """
    chosen = ops.take(ops.reshape(deltas, (-1, 4)), goal.index, axis=0)
    loss = regression_loss(chosen, goal, kind, beta, coder)
    return ops.sum(loss * ops.asarray(goal.weights[:, None], like=deltas))
