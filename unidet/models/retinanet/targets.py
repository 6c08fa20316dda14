"""Targets of RetinaNet, made on the host as dense arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unidet.backends.parallel import batch_split
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import IGNORED, Matcher
from unidet.models.boxes.targets import PAD, check_labels
from unidet.structures import Targets


@dataclass(frozen=True)
class RetinaNetTargets:
    """Arrays that enter the losses; divisors are folded into the weights.

    Attributes:
        classes: ``(N, A)`` int32, the class of each anchor or a negative number.
        class_weights: ``(N, A)`` float32, 0 where the anchor is ignored.
        positives: ``(P,)`` int64, positive anchors as indices into ``N * A``, padded with 0.
        box_weights: ``(P,)`` float32, 0 for the padding.
        anchors: ``(P, 4)`` float32 pixels.
        boxes: ``(P, 4)`` float32 pixels.
        deltas: ``(P, 4)`` float32.
        num_positives: positive anchors of each image.
        divisor: what the losses are divided by, where one number serves the whole batch.
    """

    classes: np.ndarray
    class_weights: np.ndarray
    positives: np.ndarray
    box_weights: np.ndarray
    anchors: np.ndarray
    boxes: np.ndarray
    deltas: np.ndarray
    num_positives: tuple[int, ...]
    divisor: float | None = None


def build_targets(
    anchors_xyxy: np.ndarray,
    targets: Sequence[Targets],
    *,
    matcher: Matcher,
    coder: BoxCoder,
    num_classes: int,
    background_slot: int | None = None,
    normalizer: str | Callable[[int], float] = "batch",
) -> RetinaNetTargets:
    """Matches the anchors of every image with its objects.

    Args:
        anchors_xyxy: ``(A, 4)`` float32, the same for all images.
        targets: objects of each image.
        matcher: decides who is positive.
        coder: encodes their boxes.
        num_classes: labels lie below this.
        background_slot: label that must not occur.
        normalizer: ``"image"`` or ``"batch"``, see ``RetinaNetConfig``; or what makes the divisor
            from the number of positive anchors in the batch.

    Raises:
        ValueError: a label that the model cannot learn.
    """
    count, images = len(anchors_xyxy), len(targets)
    classes = np.full((images, count), -1, np.int32)
    valid = np.ones((images, count), np.float32)
    found: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    for i, target in enumerate(targets):
        check_labels(target, num_classes, background_slot)
        matched = matcher(anchors_xyxy, target)
        valid[i, matched == IGNORED] = 0
        positive = np.flatnonzero(matched >= 0)
        classes[i, positive] = target.labels[matched[positive]]
        boxes.append(target.boxes_xyxy[matched[positive]])
        found.append(positive)
    num_positives = tuple(len(positive) for positive in found)
    total = sum(num_positives)
    divisor = None
    if isinstance(normalizer, str):
        share = _shares(num_positives, normalizer)
    else:
        divisor = normalizer(total)
        share = np.full(images, batch_split.parts() / divisor, np.float32)
    padding = -total % PAD or (0 if total else PAD)
    index = np.concatenate([*found, np.zeros(padding, np.int64)])
    where = np.repeat(np.arange(images), num_positives)
    offset = np.concatenate([where * count, np.zeros(padding, np.int64)])
    anchors = anchors_xyxy[index]
    wanted = np.concatenate([*boxes, anchors[total:]]).astype(np.float32)
    return RetinaNetTargets(
        classes=classes,
        class_weights=valid * share[:, None],
        positives=index + offset,
        box_weights=np.concatenate([share[where], np.zeros(padding, np.float32)]),
        anchors=anchors,
        boxes=wanted,
        deltas=coder.encode(wanted, anchors),
        num_positives=num_positives,
        divisor=divisor,
    )


def _shares(num_positives: Sequence[int], normalizer: str) -> np.ndarray:
    """What one anchor of each image weighs in the loss, ``(N,)`` float32."""
    counts = np.maximum(np.asarray(num_positives, np.float64), 1)
    if normalizer == "image":
        divisor = counts * batch_split.mean_count("images", len(counts))
    else:
        divisor = np.full(len(counts), batch_split.mean_count("positives", counts.sum()))
    return (1 / divisor).astype(np.float32)
