"""Soft-NMS (Bodla et al. 2017) as a loop of ONNX operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.export.graph import Graph, Value


def soft_suppress(
    graph: Graph, boxes: Value, scores: Value, post: Any
) -> tuple[Value, Value, Value]:
    """The best of all classes, each lowered by those chosen before it in its class.

    Scores only fall, so taking the best of all classes again and again gives them by falling
    score; at ties the lower class comes first.

    Args:
        graph: where it goes.
        boxes: ``(1, R, 4)``, or ``(K, R, 4)`` where each class has its own.
        scores: ``(K, R)``; minus infinity leaves a box out of a class.
        post: a ``RoIPostProcess`` with ``soft_nms``.

    Returns:
        Class, row and lowered score ``(n,)`` of each.
    """
    shared = post.rows.groups == 1
    # One more box, which is never chosen: the best of none would have no place.
    boxes = graph.op("Pad", boxes, np.array([0, 0, 0, 0, 1, 0], np.int64), np.float32(0))
    scores = graph.op("Pad", scores, np.array([0, 0, 0, 1], np.int64), np.float32(-np.inf))
    best = _largest(graph, scores, 1)
    size = boxes.part(2, 4, axis=2) - boxes.part(0, 2, axis=2)
    areas = _column(size, 0) * _column(size, 1)  # (K or 1, R)

    def going(best: Value) -> Value:
        return _largest(graph, best, 0).reshape() >= post.soft_min_score

    def one_round(
        inner: Graph, number: Value, scores: Value, best: Value
    ) -> tuple[Value, list[Value], list[Value]]:
        label = inner.op("ArgMax", best, kind="int64", axis=0, keepdims=1)  # (1,)
        own = scores.take(label).reshape(-1)
        row = inner.op("ArgMax", own, kind="int64", axis=0, keepdims=1)
        value = own.take(row)
        group = inner.constant(np.zeros(1, np.int64)) if shared else label
        others = boxes.take(group).reshape(-1, 4)
        area = areas.take(group).reshape(-1)
        chosen = others.take(row)
        low = chosen.part(0, 2, axis=1).maximum(others.part(0, 2, axis=1))
        high = chosen.part(2, 4, axis=1).minimum(others.part(2, 4, axis=1))
        lengths = (high - low).maximum(0.0)
        common = lengths.column(0) * lengths.column(1)
        iou = common / (area.take(row) + area - common)
        iou = inner.where(iou > 0.0, iou, 0.0)  # also for NaN
        if post.soft_nms == "gaussian":
            wide = iou.cast("float64")
            kept = inner.op("Exp", wide * wide * -1.0 / post.soft_sigma).cast("float32")
        else:
            kept = inner.where(iou > post.nms_iou, iou * -1.0 + 1.0, 1.0)
        # What is out stays out: minus infinity times 0 would be NaN.
        lowered = inner.where(own > -np.inf, own * kept, -np.inf)
        gone = np.array([-np.inf], np.float32)
        lowered = inner.op("ScatterElements", lowered, row, gone, axis=0)
        place = label.reshape(1, 1)
        scores = inner.op("ScatterND", scores, place, lowered.reshape(1, -1))
        best = inner.op("ScatterND", best, place, _largest(inner, lowered, 0))
        return going(best), [scores, best], [label, row, value]

    trips = None
    if post.max_detections is not None:
        trips = graph.constant(np.array(post.max_detections, np.int64))
    _, _, *found = graph.loop(
        trips, going(best), [scores, best], one_round, ("int64", "int64", "float32")
    )
    label, row, value = (one.reshape(-1) for one in found)
    return label, row, value


def _column(size: Value, axis: int) -> Value:
    return size.take(np.array(axis, np.int64), axis=2)


def _largest(graph: Graph, values: Value, axis: int) -> Value:
    """The largest along the last of two axes, or ``(1,)`` of a vector."""
    count = graph.constant(np.array([1], np.int64))
    largest = graph.ops("TopK", values, count, outputs=2, axis=axis)[0]
    return largest.reshape(-1)
