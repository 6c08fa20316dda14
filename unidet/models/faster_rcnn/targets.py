"""Targets of the two stages of Faster R-CNN, made on the host as dense arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unidet.backends import random
from unidet.backends.parallel import batch_split
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import IGNORED, Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.boxes.targets import BoxTargets, padded
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.faster_rcnn.proposals import inside_image
from unidet.structures import Targets


@dataclass(frozen=True)
class RPNTargets:
    """Targets of the first stage.

    Attributes:
        index: ``(S,)`` int64 sampled anchors as indices into ``N * A``, padded with 0.
        labels: ``(S,)`` float32, 1 where an object is.
        weights: ``(S,)`` float32, 0 for the padding.
        boxes: targets of the positive ones.
    """

    index: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    boxes: BoxTargets


@dataclass(frozen=True)
class RoITargets:
    """Targets of the second stage.

    Attributes:
        rois: ``(R, 4)`` float32 pixels, sampled proposals of all images.
        images: ``(R,)`` int64 image of each.
        classes: ``(R,)`` int64 row of the class outputs.
        weights: ``(R,)`` float32.
        boxes: targets of the positive ones; indices into ``R * G`` groups of box outputs.
    """

    rois: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    boxes: BoxTargets


@dataclass(frozen=True)
class ClassLayout:
    """Where labels and the background lie among the outputs.

    Attributes:
        background: row of the background among the class outputs.
        first: row of label 0 among them.
        first_box: group of label 0 among the box outputs.
        groups: groups of box outputs; 1 for all classes together.
    """

    background: int
    first: int
    first_box: int
    groups: int

    def group(self, labels: np.ndarray) -> np.ndarray:
        """Group of box outputs of each label."""
        return labels * 0 if self.groups == 1 else labels + self.first_box


def class_rows(c: FasterRCNNConfig) -> ClassLayout:
    """Where labels and the background lie among the outputs of a model."""
    slot = c.background_slot is not None
    first = 1 if c.background == "first" and not slot else 0
    background = 0 if c.background == "first" else c.num_classes
    first_box = first if c.box_background or c.background == "last" else first - 1
    return ClassLayout(background, first, first_box, c.box_rows)


def rpn_targets(
    anchors_xyxy: np.ndarray,
    targets: Sequence[Targets],
    image_sizes: Sequence[tuple[int, int]],
    *,
    matcher: Matcher,
    sampler: RandomSampler,
    coder: BoxCoder,
    border: float | None,
    normalizer: str,
) -> RPNTargets:
    """Matches and samples the anchors of every image.

    Args:
        anchors_xyxy: ``(A, 4)`` float32, the same for all images.
        targets: objects of each image.
        image_sizes: ``(height, width)`` of each before padding.
        matcher: decides who is positive.
        sampler: decides who is asked.
        coder: encodes boxes.
        border: see ``rpn_border`` of ``FasterRCNNConfig``.
        normalizer: see ``rpn_normalizer`` of ``FasterRCNNConfig``.
    """
    found, owners, lists, counts = [], [], [], []
    for i, (target, size) in enumerate(zip(targets, image_sizes)):
        matched = matcher(anchors_xyxy, target)
        if border is not None:
            matched = np.where(inside_image(anchors_xyxy, size, border), matched, IGNORED)
        positive, negative = sampler(
            matched, random.local_stream("rpn", batch_split.image_index(i))
        )
        found.append(positive)
        owners.append(target.boxes_xyxy[matched[positive]])
        lists.append(np.concatenate([positive, negative]) + i * len(anchors_xyxy))
        counts.append((len(positive), len(negative)))
    share = _share(counts, normalizer, sampler.size)
    labels = [np.repeat((1.0, 0.0), pair) for pair in counts]
    index = np.concatenate(lists)
    total = len(index)
    positive = np.concatenate(found)
    offset = np.repeat(np.arange(len(targets)) * len(anchors_xyxy), [len(one) for one in found])
    return RPNTargets(
        index=padded(index),
        labels=padded(np.concatenate(labels).astype(np.float32)),
        weights=padded(np.full(total, share, np.float32)),
        boxes=_box_targets(
            positive + offset, anchors_xyxy[positive], np.concatenate(owners), share, coder
        ),
    )


def roi_targets(
    proposals: Sequence[np.ndarray],
    targets: Sequence[Targets],
    *,
    matcher: Matcher,
    sampler: RandomSampler,
    coder: BoxCoder,
    rows: ClassLayout,
    add_ground_truth: bool,
) -> RoITargets:
    """Matches and samples the proposals of every image.

    Args:
        proposals: ``(n, 4)`` float32 of each image, in pixels of the input.
        targets: objects of each image.
        matcher: decides who is positive.
        sampler: decides who is asked.
        coder: encodes boxes.
        rows: places of the classes among the outputs.
        add_ground_truth: objects are proposals too.
    """
    rois, images, classes, positives, owners = [], [], [], [], []
    start = 0
    for i, (boxes, target) in enumerate(zip(proposals, targets)):
        if add_ground_truth:
            boxes = np.concatenate([boxes, _learnable_boxes(target)])
        matched = matcher(boxes, target)
        positive, negative = sampler(
            matched, random.local_stream("roi", batch_split.image_index(i))
        )
        labels = target.labels[matched[positive]]
        rois.append(boxes[np.concatenate([positive, negative])])
        images.append(np.full(len(rois[-1]), i))
        background = np.full(len(negative), rows.background)
        classes.append(np.concatenate([labels + rows.first, background]))
        place = np.arange(start, start + len(positive))
        positives.append(place * rows.groups + rows.group(labels))
        owners.append(target.boxes_xyxy[matched[positive]])
        start += len(rois[-1])
    share = np.float32(1 / batch_split.mean_count("proposals", start, least=1))
    if not start:  # the head needs something to read; it weighs nothing
        rois, images = [np.array([[0, 0, 1, 1]], np.float32)], [np.zeros(1, np.int64)]
        classes = [np.array([rows.background])]
    boxes = np.concatenate(rois).astype(np.float32)
    index = np.concatenate(positives).astype(np.int64)
    owned = np.concatenate(owners)
    return RoITargets(
        rois=boxes,
        images=np.concatenate(images).astype(np.int64),
        classes=np.concatenate(classes).astype(np.int64),
        weights=np.full(len(boxes), share if start else 0, np.float32),
        boxes=_box_targets(index, boxes[index // rows.groups], owned, share, coder),
    )


def _share(counts: Sequence[tuple[int, int]], normalizer: str, size: int) -> np.float32:
    """What one sampled anchor weighs."""
    if normalizer == "constant":
        total = size * batch_split.mean_count("images", len(counts))
    elif normalizer == "sampled_each":
        sampled = sum(max(positive, 1) + max(negative, 1) for positive, negative in counts)
        total = batch_split.mean_count("anchors", sampled)
    else:
        total = batch_split.mean_count("anchors", sum(map(sum, counts)), least=1)
    return np.float32(1 / total)


def _box_targets(
    index: np.ndarray, anchors: np.ndarray, boxes: np.ndarray, share: np.float32, coder: BoxCoder
) -> BoxTargets:
    # Padding wants of a unit box what it already is.
    unit = np.array([0, 0, 1, 1], np.float32)
    anchors = padded(anchors.astype(np.float32), unit)
    boxes = padded(boxes.astype(np.float32), unit)
    weights = padded(np.full(len(index), share, np.float32))
    return BoxTargets(padded(index), weights, anchors, boxes, coder.encode(boxes, anchors))


def _learnable_boxes(target: Targets) -> np.ndarray:
    boxes = target.learnable().boxes_xyxy
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
