"""DETR as an ONNX graph, photo to detections."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.export.boxes import keep, per_axis
from unidet.export.graph import Graph, Value
from unidet.export.parts import Found, Given, Inputs, Parts, image_of
from unidet.models.detr.positions import EPSILON, TEMPERATURE
from unidet.models.layers.attention import HIDDEN


def detr_graph(model: Any, graph: Graph, parts: Parts, inputs: Inputs) -> Found:
    """Boxes ``(n, 4)`` in pixels of the original, scores and labels by falling score."""
    c = model.settings
    (features,) = parts.add(graph, _features, {"image": image_of(inputs)}, ["features"])
    valid, pos = positions(graph, inputs, features, c.width)
    mask = graph.op("Where", valid, np.float32(0), np.float32(HIDDEN), kind="float32")
    tokens = features.reshape(1, c.width, -1).transpose(0, 2, 1)
    few = 12
    given = {
        "tokens": Given(tokens, (1, few, c.width), (1,)),
        "pos": Given(pos.reshape(1, -1, c.width), (1, few, c.width), (1,)),
        "mask": Given(mask.reshape(1, 1, 1, -1), (1, 1, 1, few), (3,)),
    }
    logits, boxes = parts.add(graph, _transformer, given, ["logits", "boxes"])
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


def _features(model: Any, image: Any) -> tuple[Any, ...]:
    return (model.input_proj(model.backbone(image)[-1]),)


def _transformer(model: Any, tokens: Any, pos: Any, mask: Any) -> tuple[Any, ...]:
    c = model.settings
    query = ops.reshape(model.query_embed.weight, (1, c.num_queries, c.width))
    found = model.transformer(tokens, pos, query, mask, False)[-1]
    return model.class_embed(found), ops.sigmoid(model.bbox_embed(found))


def positions(graph: Graph, inputs: Inputs, features: Value, width: int) -> tuple[Value, Value]:
    """Which tokens belong to the image ``(h, w)`` bool, and sine positions ``(h, w, width)``."""
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
