"""Targets of the first stage of UniDetector, made on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unidet.backends import random
from unidet.backends.parallel import batch_split
from unidet.models.boxes.geometry import paired_iou
from unidet.models.boxes.matcher import IGNORED, Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.boxes.targets import padded
from unidet.models.boxes.tblr_coder import TBLRCoder
from unidet.models.faster_rcnn.proposals import inside_image
from unidet.models.faster_rcnn.targets import RoITargets, RPNTargets
from unidet.structures import Targets


@dataclass(frozen=True)
class QualityTargets:
    """Targets of localisation quality; divisors are folded into the weights.

    Attributes:
        index: ``(S,)`` int64 entries of the flattened output, padded with 0.
        wanted: ``(S,)`` float32 in [0, 1].
        weights: ``(S,)`` float32, 0 for the padding.
    """

    index: np.ndarray
    wanted: np.ndarray
    weights: np.ndarray


def quality_targets(
    anchors_xyxy: np.ndarray,
    targets: Sequence[Targets],
    image_sizes: Sequence[tuple[int, int]],
    *,
    matcher: Matcher,
    sampler: RandomSampler,
    border: float | None,
    share: float,
) -> QualityTargets:
    """Centerness of sampled anchors in their objects, 0 for background.

    Args:
        anchors_xyxy: ``(A, 4)`` float32, the same for all images.
        targets: objects of each image.
        image_sizes: ``(height, width)`` of each before padding.
        matcher: decides who is positive.
        sampler: decides who is asked.
        border: anchors that leave the image by more pixels learn nothing; None: all learn.
        share: what one anchor weighs.
    """
    index, wanted = [], []
    for i, (target, size) in enumerate(zip(targets, image_sizes)):
        matched = matcher(anchors_xyxy, target)
        if border is not None:
            matched = np.where(inside_image(anchors_xyxy, size, border), matched, IGNORED)
        positive, negative = sampler(
            matched, random.local_stream("quality", batch_split.image_index(i))
        )
        owners = target.boxes_xyxy[matched[positive]]
        index.append(np.concatenate([positive, negative]) + i * len(anchors_xyxy))
        zeros = np.zeros(len(negative), np.float32)
        wanted.append(np.concatenate([centerness(anchors_xyxy[positive], owners), zeros]))
    entries = np.concatenate(index)
    return QualityTargets(
        index=padded(entries),
        wanted=padded(np.concatenate(wanted).astype(np.float32)),
        weights=padded(np.full(len(entries), share, np.float32)),
    )


def centerness(anchors_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """How central an anchor's centre lies in its box (Tian et al. 2019); 0 outside, ``(n,)``."""
    if not len(anchors_xyxy):
        return np.zeros(0, np.float32)
    top, bottom, left, right = TBLRCoder().encode(boxes_xyxy, anchors_xyxy).T
    sides = [(np.minimum(a, b), np.maximum(a, b)) for a, b in ((top, bottom), (left, right))]
    inside = (sides[0][0] > 0) & (sides[1][0] > 0)
    ratio = [low / (high + np.float32(1e-12)) for low, high in sides]
    product = np.where(inside, ratio[0] * ratio[1], 0)
    return np.sqrt(np.maximum(product, 0)).astype(np.float32)


def without_border_targets(goal: RPNTargets) -> RPNTargets:
    """The boxes of objects with a corner at 0 weigh nothing; they stay in the divisor."""
    boxes = goal.boxes
    good = (boxes.boxes > 0).all(axis=1)
    return RPNTargets(
        index=goal.index,
        labels=goal.labels,
        weights=goal.weights,
        boxes=type(boxes)(
            **{**vars(boxes), "weights": np.where(good, boxes.weights, 0).astype(np.float32)}
        ),
    )


def roi_quality(goal: RoITargets) -> QualityTargets:
    """IoU of each positive proposal with its object, before refinement."""
    boxes = goal.boxes
    iou = paired_iou(boxes.anchors, boxes.boxes).astype(np.float32)
    return QualityTargets(index=boxes.index, wanted=iou, weights=boxes.weights)
