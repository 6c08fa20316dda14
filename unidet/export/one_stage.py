"""RetinaNet and DETR as ONNX graphs, photo to detections."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.export.boxes import (
    anchor_levels,
    by_class,
    clip,
    decode,
    falling,
    keep,
    nms,
    per_axis,
    sigmoid,
)
from unidet.export.boxes import sides as box_sides
from unidet.export.graph import Graph, Value
from unidet.export.parts import Found, Given, Inputs, Parts, image_of
from unidet.models.detr.positions import EPSILON, TEMPERATURE
from unidet.models.layers.attention import HIDDEN


def retinanet(model: Any, graph: Graph, parts: Parts, inputs: Inputs) -> Found:
    """Boxes ``(n, 4)`` in pixels of the original, scores and labels by falling score."""
    count = len(model.anchors.cells)
    levels = [f"level{i}" for i in range(count)]
    logits, deltas, *maps = parts.add(
        graph, _retinanet_network, {"image": image_of(inputs)}, ["logits", "deltas", *levels]
    )
    anchors = anchor_levels(model.anchors, inputs.image, maps)
    sizes = graph.concat([level.side(0) for level in anchors])
    post, classes = model.postprocess, model.settings.num_classes
    columns = []
    for own_logits, own_deltas, own_anchors in zip(
        graph.ops("Split", logits.reshape(-1, classes), sizes, outputs=count, axis=0),
        graph.ops("Split", deltas.reshape(-1, 4), sizes, outputs=count, axis=0),
        anchors,
    ):
        flat = own_logits.reshape(-1)
        index = graph.places(flat > _logit(post.score_threshold))
        values = flat.take(index)
        if post.pre_nms is not None:
            values, order = values.best(post.pre_nms)
            index = index.take(order)
        rows = index // classes
        boxes = decode(post.coder, own_deltas.take(rows), own_anchors.take(rows))
        columns.append((boxes, values, index % classes))
    boxes, values, labels = (graph.concat(column) for column in zip(*columns))
    if post.clip == "before_nms":
        boxes = clip(boxes, inputs.image_size)
    elif post.clip == "one_sided":
        padded = graph.concat([inputs.image.side(2), inputs.image.side(3)])
        boxes = clip(boxes, padded, one_sided=True)
    scores = sigmoid(values)
    _, _, kept = nms(
        boxes.reshape(1, -1, 4),
        by_class(graph, scores, labels, classes),
        post.nms_iou,
        post.max_detections,
    )
    kept = kept.take(falling(scores.take(kept), kept, post.max_detections))
    boxes, scores, labels = (value.take(kept) for value in (boxes, scores, labels))
    if post.clip == "after_nms":
        boxes = clip(boxes, inputs.image_size)
        solid = graph.all_of(box_sides(boxes) > 0.0)
        boxes, scores, labels = keep(solid, boxes, scores, labels)
    # In double precision, as on the host.
    boxes = boxes.cast("float64") / per_axis(inputs.scale).cast("float64")
    return boxes.cast("float32"), scores, labels


def _retinanet_network(model: Any, image: Any) -> tuple[Any, ...]:
    levels = model.neck(model.backbone(image)[1:])
    return (*model.head(levels), *levels)


def _logit(probability: float) -> float:
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def detr(model: Any, graph: Graph, parts: Parts, inputs: Inputs) -> Found:
    """As :func:`retinanet`; boxes are not clipped and nothing is suppressed."""
    c = model.settings
    (features,) = parts.add(graph, _detr_features, {"image": image_of(inputs)}, ["features"])
    valid, places = positions(graph, inputs, features, c.width)
    mask = graph.op("Where", valid, np.float32(0), np.float32(HIDDEN), kind="float32")
    cells = features.reshape(1, c.width, -1).transpose(0, 2, 1)
    few = 12
    given = {
        "cells": Given(cells, (1, few, c.width), (1,)),
        "places": Given(places.reshape(1, -1, c.width), (1, few, c.width), (1,)),
        "mask": Given(mask.reshape(1, 1, 1, -1), (1, 1, 1, few), (3,)),
    }
    logits, boxes = parts.add(graph, _detr_transformer, given, ["logits", "boxes"])
    classes = c.num_classes
    known = graph.op("Softmax", logits, axis=-1).reshape(-1, classes + 1).part(0, classes, axis=1)
    scores, labels = graph.ops("TopK", known, np.array([1], np.int64), outputs=2, axis=1)
    labels.kind = "int64"
    scores, labels = scores.reshape(-1), labels.reshape(-1)
    boxes, scores, labels = keep(scores > c.score_threshold, boxes.reshape(-1, 4), scores, labels)
    scores, order = scores.best(scores.side(0) if c.max_detections is None else c.max_detections)
    boxes = boxes.take(order)
    centre, half = boxes.part(0, 2, axis=1), boxes.part(2, 4, axis=1) / 2
    corners = graph.concat([centre - half, centre + half], axis=1)
    # A scale is a quotient of whole numbers, so the original's size comes out exactly.
    exact = inputs.image_size.cast("float64") / inputs.scale.cast("float64")
    original = per_axis(graph.op("Round", exact).cast("float32"))
    return corners * original, scores, labels.take(order)


def _detr_features(model: Any, image: Any) -> tuple[Any, ...]:
    return (model.input_proj(model.backbone(image)[-1]),)


def _detr_transformer(model: Any, cells: Any, places: Any, mask: Any) -> tuple[Any, ...]:
    c = model.settings
    query = ops.reshape(model.query_embed.weight, (1, c.num_queries, c.width))
    found = model.transformer(cells, places, query, mask, False)[-1]
    return model.class_embed(found), ops.sigmoid(model.bbox_embed(found))


def positions(graph: Graph, inputs: Inputs, features: Value, width: int) -> tuple[Value, Value]:
    """Which cells belong to the image ``(h, w)`` bool, and sine positions ``(h, w, width)``."""
    inside = []
    for axis in (0, 1):
        total, count = inputs.image.side(axis + 2), features.side(axis + 2)
        factor = (total.cast("float64") / count.cast("float64")).cast("float32")
        pixel = graph.op("Floor", graph.counted(count).cast("float32") * factor)
        end = inputs.image_size.take(np.array([axis], np.int64)).cast("float32")
        inside.append(pixel < end)
    valid = inside[0].reshape(-1, 1) & inside[1].reshape(1, -1)
    half = width // 2
    waves = TEMPERATURE ** (2 * (np.arange(half) // 2) / half)
    # The cosine, as a sine: not every runtime has both in double precision.
    quarter = np.where(np.arange(half) % 2 == 0, 0, math.pi / 2)
    parts = []
    for axis in (0, 1):
        count = graph.op("CumSum", valid.cast("float64"), np.array(axis, np.int64))
        last = count.take(np.array([-1], np.int64), axis=axis)
        share = count / (last + EPSILON) * (2 * math.pi)
        angles = graph.op("Unsqueeze", share, np.array([2], np.int64)) / waves
        parts.append(graph.op("Sin", angles + quarter))
    return valid, graph.concat(parts, axis=2).cast("float32")
