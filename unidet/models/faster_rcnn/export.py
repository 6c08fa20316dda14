"""Detectors of two stages as ONNX graphs, photo to detections."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.export.boxes import (
    anchor_levels,
    by_class,
    clip,
    decode,
    falling,
    keep,
    nms,
    per_axis,
    sides,
    sigmoid,
)
from unidet.export.graph import LOWEST, Graph, Value
from unidet.export.parts import Found, Given, Inputs, Parts, image_of
from unidet.export.soft_nms import soft_suppress
from unidet.models.faster_rcnn.fast_rcnn import CHUNK, STRIDES
from unidet.models.faster_rcnn.roi_levels import roi_levels


def two_stage_graph(model: Any, graph: Graph, parts: Parts, inputs: Inputs) -> Found:
    """Boxes ``(n, 4)`` in pixels of the original, scores and labels by falling score."""
    c = model.settings
    if inputs.proposals is not None:
        names = _names(len(STRIDES[c.style]))
        maps = parts.add(graph, _levels, {"image": image_of(inputs)}, names)
        # Changes nothing. onnxruntime up to 1.22 at least fails where a convolution's answer is
        # read by the body of a loop alone.
        maps = [level.maximum(LOWEST) for level in maps]
        proposals, quality = inputs.proposals, inputs.proposal_scores
        limit = model.proposal_limit
        if limit is not None:
            proposals = proposals.part(0, limit)
            quality = None if quality is None else quality.part(0, limit)
    else:
        proposals, quality, maps = _propose(model, graph, parts, inputs)
    answers = _classify(model, graph, parts, maps[: len(STRIDES[c.style])], proposals)
    scores = model.onnx_scores(graph, answers, quality)
    return _detections(model, graph, inputs, proposals, scores, answers[1])


def _names(count: int) -> list[str]:
    return [f"level{i}" for i in range(count)]


def _levels(model: Any, image: Any) -> tuple[Any, ...]:
    features = model.backbone(image)
    levels = features[-1:] if model.neck is None else model.neck(features)
    return tuple(levels[: len(STRIDES[model.settings.style])])


# -- first stage -------------------------------------------------------------------------------


def _first_stage(model: Any, image: Any) -> tuple[Any, ...]:
    features = model.backbone(image)
    levels = features[-1:] if model.neck is None else model.neck(features)
    return (*model.rpn(levels), *levels)


def _propose(
    model: Any, graph: Graph, parts: Parts, inputs: Inputs
) -> tuple[Value, Value, list[Value]]:
    """Proposals ``(n, 4)``, their probabilities ``(n,)``, and the maps of all levels."""
    c, select = model.settings, model.select_proposals
    count = len(model.anchors.cells)
    logits, deltas, *maps = parts.add(
        graph, _first_stage, {"image": image_of(inputs)}, ["logits", "deltas", *_names(count)]
    )
    anchors = anchor_levels(model.anchors, inputs.image, maps)
    lengths = graph.concat([level.side(0) for level in anchors])
    columns = []
    for number, (own_logits, own_deltas, own_anchors) in enumerate(
        zip(
            graph.ops("Split", logits.reshape(-1), lengths, outputs=count, axis=0),
            graph.ops("Split", deltas.reshape(-1, 4), lengths, outputs=count, axis=0),
            anchors,
        )
    ):
        scores, best = own_logits.best(c.rpn_pre_nms_test)
        boxes = decode(select.coder, own_deltas.take(best), own_anchors.take(best))
        level = graph.op("Expand", np.array([number], np.int64), scores.side(0), kind="int64")
        columns.append((boxes, scores, level))
    boxes, scores, levels = (graph.concat(column) for column in zip(*columns))
    boxes = clip(boxes, inputs.image_size)
    usable = graph.all_of(graph.finite(boxes)) & graph.finite(scores)
    if select.nms_iou is None:
        boxes, scores = keep(usable, boxes, scores)
        return boxes, sigmoid(scores), maps
    lengths = sides(boxes)
    usable = usable & graph.all_of((lengths > 0.0) & (lengths >= select.min_side))
    if select.score_threshold > 0:
        share = min(select.score_threshold, 1 - 1e-7)
        usable = usable & (scores >= math.log(share / (1 - share)))
    boxes, scores, levels = keep(usable, boxes, scores, levels)
    most = c.rpn_post_nms_test
    wanted = by_class(graph, scores, levels, count)
    _, _, kept = nms(boxes.reshape(1, -1, 4), wanted, select.nms_iou, most)
    kept = kept.take(falling(scores.take(kept), kept, most))
    return boxes.take(kept), sigmoid(scores.take(kept)), maps


# -- second stage ------------------------------------------------------------------------------


def _classify(
    model: Any, graph: Graph, parts: Parts, maps: Sequence[Value], proposals: Value
) -> list[Value]:
    """Outputs of the head for the proposals, ``(R, numbers)`` each."""
    c = model.settings
    step = max(CHUNK // (model.feature_channels * c.roi_size**2), 1)

    def answer(own: Value) -> list[Value]:
        cells, order = _regions(model, own.graph, maps, own)
        shape = (3, model.feature_channels, c.roi_size, c.roi_size)
        found = parts.add(
            cells.graph, _head, {"regions": Given(cells, shape, (0,))}, list(model.head_outputs)
        )
        return found if order is None else [value.take(order) for value in found]

    def one_round(inner: Graph, number: Value, *before: Value) -> tuple[Value, list[Value], list]:
        start = number.reshape(1) * step
        own = proposals.part(start, start + step)
        after = [inner.concat(pair) for pair in zip(before, answer(own))]
        return inner.constant(np.array(True)), after, []

    # Some at a time: the maps of many proposals take gigabytes. And no operator sees none.
    rounds = (proposals.side(0) + (step - 1)) // step
    empty = [graph.constant(np.zeros((0, n), np.float32)) for n in model.head_outputs.values()]
    return graph.loop(rounds.reshape(), graph.constant(np.array(True)), empty, one_round)


def _head(model: Any, regions: Any) -> tuple[Any, ...]:
    return tuple(model.run_head(regions))


def _regions(
    model: Any, graph: Graph, maps: Sequence[Value], proposals: Value
) -> tuple[Value, Value | None]:
    """``(R, C, side, side)``, level by level, and where each proposal lies among them."""
    c = model.settings
    strides = STRIDES[c.style]

    def cut(features: Value, boxes: Value, stride: int) -> Value:
        zeros = graph.op("Expand", np.array([0], np.int64), boxes.side(0), kind="int64")
        return graph.op(
            "RoiAlign",
            features,
            boxes,
            zeros,
            coordinate_transformation_mode="half_pixel" if c.roi_aligned else "output_half_pixel",
            output_height=c.roi_size,
            output_width=c.roi_size,
            sampling_ratio=max(c.roi_sampling_ratio, 0),
            spatial_scale=1 / stride,
        )

    if len(strides) == 1:
        return cut(maps[0], proposals, strides[0]), None
    area = sides(proposals).maximum(0.0)
    side = graph.op("Sqrt", area.column(0) * area.column(1))
    bounds = level_bounds(c.roi_level_rule, len(strides))
    above = [(side >= bound).cast("int64") for bound in bounds]
    levels = functools.reduce(operator.add, above)
    rows = [graph.places(levels.same(number)) for number in range(len(strides))]
    cells = [cut(m, proposals.take(own), s) for m, own, s in zip(maps, rows, strides)]
    # The inverse of the order in which they were cut out.
    _, order = graph.concat(rows).best(proposals.side(0), largest=False)
    return graph.concat(cells), order


def level_bounds(rule: str, count: int) -> list[np.float32]:
    """The least side that belongs to each level above the first: float32, found by bisection.

    A comparison with them gives the level that :func:`roi_levels` gives, whatever a runtime's
    logarithm rounds to.

    Args:
        rule: see :func:`roi_levels`.
        count: levels.
    """
    bounds = []
    for level in range(1, count):
        low, high = (int(np.float32(v).view(np.int32)) for v in (1.0, 1e6))
        while high - low > 1:
            middle = (low + high) // 2
            side = np.int32(middle).view(np.float32)
            box = np.array([[0, 0, side, side]], np.float32)
            above = int(roi_levels(box, rule, count)[0]) >= level
            low, high = (low, middle) if above else (middle, high)
        bounds.append(np.int32(high).view(np.float32))
    return bounds


def _detections(
    model: Any, graph: Graph, inputs: Inputs, proposals: Value, scores: Value, deltas: Value
) -> Found:
    post = model.postprocess
    rows, labels = post.rows, post.num_labels
    factor = per_axis(inputs.scale)
    # (G, R, 4): the boxes of each group of classes
    groups = deltas.reshape(-1, rows.groups, 4).transpose(1, 0, 2)
    if rows.groups > 1:
        own = np.maximum(rows.group(np.arange(labels)), 0)
        groups = groups.take(own)
    boxes = clip(decode(post.coder, groups, proposals), inputs.image_size)
    good = graph.finite(boxes) & (_both(graph, sides(boxes)) >= post.min_side)
    if post.rescale == "before_nms":
        boxes = boxes / factor
    # (K, R) scores of the labels, minus infinity where a box does not count
    known = scores.part(rows.first, rows.first + labels, axis=1).transpose(1, 0)
    usable = known > post.score_threshold
    slot = rows.background - rows.first
    if slot in range(labels):
        usable = usable & (np.arange(labels) != slot)[:, None]
    for corner in range(4):
        usable = usable & good.take(np.array(corner, np.int64), axis=2)
    known = graph.where(usable, known, -np.inf)
    if post.soft_nms is None:
        shared = rows.groups == 1
        shape = (1, labels, -1) if shared else (labels, 1, -1)
        batch, label, row = nms(boxes, known.reshape(*shape), post.nms_iou, post.max_detections)
        label = label if shared else batch
        found = graph.op(
            "GatherND", known, graph.concat([x.reshape(-1, 1) for x in (label, row)], 1)
        )
        order = falling(found, row * labels + label, post.max_detections)
        label, row, found = (value.take(order) for value in (label, row, found))
    else:
        label, row, found = soft_suppress(graph, boxes, known, post)
    group = label * (0 if rows.groups == 1 else 1)
    where = graph.concat([x.reshape(-1, 1) for x in (group, row)], axis=1)
    boxes = graph.op("GatherND", boxes, where)
    if post.rescale == "after_nms":
        boxes = boxes / factor
    if post.drop_empty:
        boxes, found, label = keep(graph.all_of(sides(boxes) > 0.0), boxes, found, label)
    return boxes, found, label


def _both(graph: Graph, lengths: Value) -> Value:
    """``(..., 2)`` to ``(..., 4)``."""
    return graph.concat([lengths, lengths], axis=-1)
