"""Loss of boxes that are coded against anchors or proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unidet.backends import ops
from unidet.losses import BOX_LOSSES, l1_loss, smooth_l1_loss
from unidet.models.boxes.coder import BoxCoder

if TYPE_CHECKING:
    from unidet.models.boxes.targets import BoxTargets
    from unidet.models.retinanet.targets import RetinaNetTargets


def regression_loss(
    deltas: Any, goal: BoxTargets | RetinaNetTargets, kind: str, beta: float, coder: BoxCoder
) -> Any:
    """What chosen boxes lose, before any weight.

    Args:
        deltas: tensor ``(P, 4)``, one row for each of ``goal.anchors``.
        goal: their targets.
        kind: ``"l1"`` or ``"smooth_l1"`` (both on deltas), or a name in
            ``unidet.losses.BOX_LOSSES`` (on boxes).
        beta: of smooth L1.
        coder: decodes boxes.

    Returns:
        ``(P, 4)`` for losses on deltas, ``(P, 1)`` for those on boxes.
    """
    if kind in BOX_LOSSES:
        boxes = coder.decode(deltas, goal.anchors)
        return BOX_LOSSES[kind](boxes, ops.asarray(goal.boxes, like=deltas))
    wanted = ops.asarray(goal.deltas, like=deltas)
    return l1_loss(deltas, wanted) if kind == "l1" else smooth_l1_loss(deltas, wanted, beta)
