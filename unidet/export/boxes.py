"""Anchors, decoding, clipping and suppression as ONNX operators.

Each function computes what its counterpart of ``unidet.models`` computes on the host, in the same
order and precision. Boxes are corners in pixels of the network's input unless a name says else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.export.graph import LOWEST, Graph, Value
from unidet.models.boxes.anchors import AnchorGenerator
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.tblr_coder import TBLRCoder


def anchor_levels(generator: AnchorGenerator, image: Value, levels: Sequence[Value]) -> list[Value]:
    """Anchors ``(A_l, 4)`` float32 of each level.

    Args:
        generator: of the model.
        image: the padded input ``(1, 3, H, W)``.
        levels: feature maps ``(1, C, h, w)``.
    """
    graph = image.graph
    found = []
    for cell, nominal, level in zip(generator.cells, generator.strides, levels):
        places = []
        for axis in (2, 3):
            count = level.side(axis)
            numbers = graph.counted(count).cast("float64") + generator.offset
            step: Any = float(nominal)
            if generator.stride_rule == "measured":
                step = (image.side(axis) // count).cast("float64")
            places.append(numbers * step)
        y, x = places[0].reshape(-1, 1, 1), places[1].reshape(1, -1, 1)
        x, y = x + y * 0.0, y + x * 0.0  # (h, w, 1) both
        shift = graph.concat([x, y, x, y], axis=2)
        # (h, w, 1, 4) + (k, 4) -> (h * w * k, 4)
        corners = graph.op("Unsqueeze", shift, np.array([2], np.int64)) + cell
        found.append(corners.reshape(-1, 4).cast("float32"))
    return found


def decode(coder: BoxCoder | TBLRCoder, deltas: Value, anchors: Value) -> Value:
    """Boxes ``(..., 4)`` of deltas ``(..., 4)`` at anchors that broadcast to them."""
    if isinstance(coder, TBLRCoder):
        return _decode_sides(coder, deltas, anchors)
    graph = deltas.graph
    low, high = _halves(anchors)
    size = high - low
    centre = low + size / 2
    shift, log_size = _halves(deltas)
    log_size = log_size * coder.std[2:]
    if coder.log_limit is not None:
        log_size = log_size.minimum(np.float32(coder.log_limit))
        if coder.log_low is not None:
            log_size = log_size.maximum(np.float32(coder.log_low))
    centre = shift * (size * coder.std[:2]) + centre
    half = graph.op("Exp", log_size) * (size / 2)
    return graph.concat([centre - half, centre + half], axis=-1)


def _decode_sides(coder: TBLRCoder, deltas: Value, anchors: Value) -> Value:
    graph = deltas.graph
    low, high = _halves(anchors)
    size = (high - low) * coder.normalizer
    centre = (low + high) / 2
    # top, bottom, left, right to -left, -top, right, bottom
    order = np.array([2, 0, 3, 1], np.int64)
    shift = deltas.take(order, axis=-1) * np.array([-1, -1, 1, 1], np.float32)
    scale, middle = (graph.concat([v, v], axis=-1) for v in (size, centre))
    return middle + shift * scale


def _halves(boxes: Value) -> tuple[Value, Value]:
    """``(..., 4)`` to twice ``(..., 2)``."""
    return boxes.part(0, 2, axis=-1), boxes.part(2, 4, axis=-1)


def sides(boxes: Value) -> Value:
    """Widths and heights ``(..., 2)``."""
    low, high = _halves(boxes)
    return high - low


def clip(boxes: Value, size: Value, one_sided: bool = False) -> Value:
    """Boxes ``(..., 4)`` moved into an image of ``size``, int64 ``(height, width)``."""
    graph = boxes.graph
    limits = size.cast("float32").take(np.array([1, 0], np.int64))
    if not one_sided:
        return boxes.maximum(0.0).minimum(graph.concat([limits, limits]))
    low, high = _halves(boxes)
    return graph.concat([low.maximum(0.0), high.minimum(limits)], axis=-1)


def nms(
    boxes: Value, scores: Value, iou_threshold: float, limit: int | None
) -> tuple[Value, Value, Value]:
    """Suppression within each class.

    Args:
        boxes: ``(B, n, 4)``.
        scores: ``(B, K, n)``; minus infinity leaves a box out.
        iou_threshold: IoU above which the lower score of one class is dropped.
        limit: most boxes kept of a class; None: all.

    Returns:
        Batch, class and box ``(m,)`` int64 of each that is kept, class by class.
    """
    graph = boxes.graph
    # An inverted box overlaps nothing, but the operator would turn it round.
    low, high = _halves(boxes)
    upright = graph.concat([low, low.maximum(high)], axis=-1)
    kept = graph.op(
        "NonMaxSuppression",
        upright,
        scores,
        boxes.side(1) if limit is None else np.array([limit], np.int64),
        np.array([iou_threshold], np.float32),
        np.array([LOWEST], np.float32),
        kind="int64",
    )
    return kept.column(0), kept.column(1), kept.column(2)


def by_class(graph: Graph, scores: Value, classes: Value, count: int) -> Value:
    """Scores ``(n,)`` as ``(1, count, n)``, minus infinity but in the row of the own class."""
    rows = np.arange(count, dtype=np.int64)[:, None]
    own = classes.reshape(1, -1).same(rows)  # (count, n)
    return graph.where(own, scores.reshape(1, -1), -np.inf).reshape(1, count, -1)


def falling(scores: Value, places: Value, limit: int | None) -> Value:
    """Order of the ``limit`` best scores, falling; at ties the lower of ``places`` first.

    Args:
        scores: ``(m,)``.
        places: ``(m,)`` int64, all different.
        limit: how many; None: all.
    """
    count = scores.side(0)
    _, rising = places.best(count, largest=False)
    _, order = scores.take(rising).best(count if limit is None else limit)
    return rising.take(order)


def per_axis(scale: Value) -> Value:
    """``(sy, sx)`` to ``(sx, sy, sx, sy)``."""
    return scale.take(np.array([1, 0, 1, 0], np.int64))


def sigmoid(x: Value) -> Value:
    """Probabilities, as :func:`unidet.models.retinanet.postprocess.sigmoid` has them.

    onnxruntime's own is exact to 1e-7 only: nothing is left of small ones.
    """
    graph = x.graph
    small = graph.op("Exp", graph.op("Neg", graph.op("Abs", x)))
    return graph.where(x >= 0.0, 1.0, small) / (small + 1.0)


def keep(mask: Value, *values: Value) -> list[Value]:
    """Rows of each value where ``mask`` ``(n,)`` holds."""
    index = mask.graph.places(mask)
    return [value.take(index) for value in values]
