"""Forms written in the plain operations, the same on every backend.

They are what runs where a kernel is missing, and what kernels are compared with. Set
``UNIDET_KERNELS=composite`` to use them everywhere. Memory grows with the square of the number of
boxes.
"""

from __future__ import annotations

from unidet.backends import ops
from unidet.backends.ops import Tensor


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """See :func:`unidet.backends.ops.box_iou`."""
    a_low, a_high = ops.split(ops.expand_dims(a, 1), (2, 2), axis=2)
    b_low, b_high = ops.split(ops.expand_dims(b, 0), (2, 2), axis=2)
    shared = _area(ops.relu(ops.minimum(a_high, b_high) - ops.maximum(a_low, b_low)))
    union = _area(a_high - a_low) + _area(b_high - b_low) - shared
    return shared / ops.where(union > 0, union, 1.0)


def _area(sides: Tensor) -> Tensor:
    width, height = ops.split(sides, (1, 1), axis=2)
    return ops.squeeze(width * height, 2)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """See :func:`unidet.backends.ops.nms`."""
    return _nms(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    """See :func:`unidet.backends.ops.batched_nms`."""
    return _nms(boxes, scores, classes, iou_threshold)


def _nms(boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_threshold: float) -> Tensor:
    order = _falling(scores)
    count = ops.shape(order)[0]
    if count == 0:
        return order
    boxes = ops.take(boxes, order)
    rank = ops.arange(count, like=boxes)
    beats = (box_iou(boxes, boxes) > iou_threshold) & (
        ops.expand_dims(rank, 1) < ops.expand_dims(rank, 0)
    )
    if classes is not None:
        classes = ops.take(classes, order)
        beats = beats & (ops.expand_dims(classes, 1) == ops.expand_dims(classes, 0))
    # A box stays if no staying box of higher rank beats it. Each round settles at least one more
    # rank, so the fixed point is the greedy answer.
    stays = rank >= 0
    while True:
        settled = ops.logical_not(ops.any(beats & ops.expand_dims(stays, 1), axis=0))
        if not ops.item(ops.any(settled != stays)):
            return ops.masked_select(order, stays)
        stays = settled


def _falling(scores: Tensor) -> Tensor:
    """Order by falling score, NaN last."""
    unknown = ops.isnan(scores)
    order = ops.argsort(ops.where(unknown, -float("inf"), scores), descending=True)
    # -inf itself comes before NaN.
    return ops.take(order, ops.argsort(ops.cast(ops.take(unknown, order), "int64")))


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[Tensor, Tensor]:
    """See :func:`unidet.backends.ops.soft_nms`."""
    if method not in ("linear", "gaussian", "hard"):
        raise ValueError(
            "Invalid value for `method`. Expected 'linear', 'gaussian' or 'hard'. "
            f"Received {method!r}."
        )
    iou = box_iou(boxes, boxes)
    nothing = -float("inf")
    left = ops.where(scores >= score_threshold, scores, nothing)
    slots = ops.arange(ops.shape(scores)[0], like=boxes)
    kept, kept_scores = [], []
    while ops.shape(scores)[0]:
        best = ops.item(ops.argmax(left, axis=0))
        score = ops.item(ops.take(left, ops.asarray([best], "int64", like=boxes)))
        if score == nothing:
            break
        kept.append(best)
        kept_scores.append(score)
        row = ops.reshape(ops.take(iou, ops.asarray([best], "int64", like=boxes)), (-1,))
        left = left * _factor(row, iou_threshold, sigma, method)
        alive = (left >= score_threshold) & (slots != best)
        left = ops.where(alive, left, nothing)
    return (
        ops.asarray(kept, "int64", like=boxes),
        ops.asarray(kept_scores, ops.dtype(scores), like=boxes),
    )


def _factor(iou: Tensor, threshold: float, sigma: float, method: str) -> Tensor:
    """Multiplier of the other boxes' scores. An undefined overlap counts as none."""
    iou = ops.where(iou > 0, iou, 0.0)
    if method == "gaussian":
        return ops.exp(-(iou * iou) / sigma)
    return ops.where(iou > threshold, 1 - iou if method == "linear" else 0.0 * iou, 1.0)
