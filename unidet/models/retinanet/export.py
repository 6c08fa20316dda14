"""RetinaNet as an ONNX graph, photo to detections."""

from __future__ import annotations

import math
from typing import Any

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
from unidet.export.graph import Graph
from unidet.export.parts import Found, Inputs, Parts, image_of


def retinanet_graph(model: Any, graph: Graph, parts: Parts, inputs: Inputs) -> Found:
    """Boxes ``(n, 4)`` in pixels of the original, scores and labels by falling score."""
    count = len(model.anchors.cells)
    levels = [f"level{i}" for i in range(count)]
    logits, deltas, *maps = parts.add(
        graph, _network, {"image": image_of(inputs)}, ["logits", "deltas", *levels]
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


def _network(model: Any, image: Any) -> tuple[Any, ...]:
    levels = model.neck(model.backbone(image)[1:])
    return (*model.head(levels), *levels)


def _logit(probability: float) -> float:
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
