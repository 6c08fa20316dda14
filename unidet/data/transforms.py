"""Random augmentations of training images and their boxes.

Each is called with ``(image, targets, rng)``, where ``image`` is ``(h, w, 3)`` uint8 RGB, boxes are
in its pixels and ``rng`` is a NumPy generator; it returns a new pair. Nothing is changed in place,
and every call takes the same number of draws whatever the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from unidet.structures import Targets


class Augmentation(Protocol):
    """A random change of an image and its boxes."""

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]: ...


def clip_targets(targets: Targets, size: tuple[int, int], min_size: float = 1.0) -> Targets:
    """Cuts boxes at the border of an image and drops those left with a side below ``min_size``.

    Args:
        targets: boxes in pixels.
        size: ``(h, w)`` of the image.
        min_size: shortest side that is kept, in pixels.
    """
    h, w = size
    boxes = np.clip(targets.boxes_xyxy, 0, np.array([w, h, w, h], np.float32))
    # A corner that float32 moved by a rounding error must not cost a box of exactly one pixel.
    keep = (boxes[:, 2:] - boxes[:, :2] >= min_size - 1e-3).all(axis=1)
    return Targets(boxes, targets.labels, targets.crowd, targets.ignore)[keep]


def scale_targets(targets: Targets, scale: tuple[float, float]) -> Targets:
    """Boxes times ``(sy, sx)``."""
    factors = np.array([scale[1], scale[0], scale[1], scale[0]])
    boxes = (targets.boxes_xyxy * factors).astype(np.float32)
    return Targets(boxes, targets.labels, targets.crowd, targets.ignore)


def _mirrored(targets: Targets, axis: int, length: int) -> Targets:
    boxes = targets.boxes_xyxy.copy()
    boxes[:, [axis, axis + 2]] = length - boxes[:, [axis + 2, axis]]
    return Targets(boxes, targets.labels, targets.crowd, targets.ignore)


def probability(p: float) -> float:
    """``p`` if it is one.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"Invalid value for `p`. Expected 0 to 1. Received {p!r}.")
    return float(p)


class HorizontalFlip:
    """Mirrors left and right with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(p)

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        if rng.random() >= self.p:
            return image, targets
        return cv2.flip(image, 1), _mirrored(targets, 0, image.shape[1])


class VerticalFlip:
    """Mirrors top and bottom with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(p)

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        if rng.random() >= self.p:
            return image, targets
        return cv2.flip(image, 0), _mirrored(targets, 1, image.shape[0])


class RandomResize:
    """Brings the shortest side to one of several sizes (multi-scale training).

    In a loader whose preprocessing resizes by the shortest side, the drawn size takes the place
    of ``Preprocess.min_size``, so that the picture is resampled once and by the model's own rule.
    Elsewhere the picture itself is resized.

    Args:
        min_sizes: the choices, in pixels, equally likely.
        max_size: limit of the longest side when the picture itself is resized.
        span: first and last choice, with every whole number between, in place of ``min_sizes``.
    """

    def __init__(
        self,
        min_sizes: Sequence[int] = (),
        max_size: int | None = None,
        span: Sequence[int] | None = None,
    ) -> None:
        if span is not None:
            if min_sizes or len(span) != 2 or not 0 < int(span[0]) <= int(span[1]):
                raise ValueError(
                    "Invalid value for `span`. Expected two rising sizes above 0 and no "
                    f"`min_sizes`. Received {span!r}."
                )
            min_sizes = range(int(span[0]), int(span[1]) + 1)
        self.min_sizes = tuple(int(s) for s in min_sizes)
        self.max_size = max_size
        if not self.min_sizes or min(self.min_sizes) < 1:
            raise ValueError(
                "Invalid value for `min_sizes`. Expected at least one size above 0. "
                f"Received {min_sizes!r}."
            )

    def draw(self, rng: np.random.Generator) -> int:
        """One of the sizes."""
        return self.min_sizes[int(rng.integers(len(self.min_sizes)))]

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        h, w = image.shape[:2]
        ratio = self.draw(rng) / min(h, w)
        if self.max_size is not None:
            ratio = min(ratio, self.max_size / max(h, w))
        new_h, new_w = max(1, round(h * ratio)), max(1, round(w * ratio))
        how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image, (new_w, new_h), interpolation=how)
        scaled = scale_targets(targets, (new_h / h, new_w / w))
        return resized, clip_targets(scaled, (new_h, new_w))


class ColorJitter:
    """Random brightness, contrast and saturation, each by a factor in ``1 - x`` to ``1 + x``."""

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2
    ) -> None:
        for name, value in (
            ("brightness", brightness),
            ("contrast", contrast),
            ("saturation", saturation),
        ):
            if not 0 <= value <= 1:
                raise ValueError(
                    f"Invalid value for `{name}`. Expected 0 to 1. Received {value!r}."
                )
        self.ranges = (brightness, contrast, saturation)

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        bright, contrast, saturation = (1 + r * rng.uniform(-1, 1) for r in self.ranges)
        pixels = image.astype(np.float32) * bright
        grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        pixels = grey[..., None] + (pixels - grey[..., None]) * saturation
        pixels = grey.mean() + (pixels - grey.mean()) * contrast
        return np.clip(pixels + 0.5, 0, 255).astype(np.uint8), targets


class RandomZoom:
    """Enlarges or reduces the picture inside its own frame and moves it.

    The factor is drawn evenly on a logarithmic scale. An enlarged picture shows a random part of
    the original; a reduced one lies at a random place on plain ground. Boxes of which too little
    is left in the frame are dropped.

    Args:
        low: smallest factor.
        high: largest factor.
        min_visible: share of a box's area that must stay in the frame.
        fill: colour of the ground, uint8 RGB.
    """

    def __init__(
        self,
        low: float = 0.75,
        high: float = 1.33,
        min_visible: float = 0.4,
        fill: Sequence[int] = (124, 116, 104),
    ) -> None:
        if not 0 < low <= high:
            raise ValueError(
                "Invalid value for `low` and `high`. Expected 0 < low <= high. "
                f"Received {low!r} and {high!r}."
            )
        if not 0 <= min_visible <= 1:
            raise ValueError(
                f"Invalid value for `min_visible`. Expected 0 to 1. Received {min_visible!r}."
            )
        self.range = (float(np.log(low)), float(np.log(high)))
        self.min_visible = min_visible
        self.fill = tuple(int(channel) for channel in fill)

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        h, w = image.shape[:2]
        factor = float(np.exp(rng.uniform(*self.range)))
        shift = rng.random(2) * (w - w * factor, h - h * factor)
        # Boxes measure from pixel edges, warpAffine from pixel centres.
        dx, dy = shift + (factor - 1) / 2
        matrix = np.array([[factor, 0, dx], [0, factor, dy]])
        moved = cv2.warpAffine(image, matrix, (w, h), borderValue=self.fill)
        offset = np.array([*shift, *shift])
        boxes = (targets.boxes_xyxy * factor + offset).astype(np.float32)
        inside = np.clip(boxes, 0, np.array([w, h, w, h], np.float32))
        areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (inside, boxes)]
        keep = areas[0] >= self.min_visible * areas[1]
        left = Targets(boxes, targets.labels, targets.crowd, targets.ignore)[keep]
        return moved, clip_targets(left, (h, w))


class Chain:
    """Augmentations that follow one another under one name.

    A loader sees the parts, so that a :class:`RandomResize` among them can be left to the model's
    own preprocessing.

    Args:
        parts: in their order.
    """

    def __init__(self, *parts: Augmentation) -> None:
        self.parts = parts

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        for part in self.parts:
            image, targets = part(image, targets, rng)
        return image, targets


class FirstEpochs:
    """Tells a loader to let an augmentation rest after some epochs.

    So training may end on pictures as they are.

    Args:
        augmentation: which.
        epochs: how many epochs it is applied in, counted from the first.
    """

    def __init__(self, augmentation: Augmentation, epochs: int) -> None:
        if epochs < 1:
            raise ValueError(
                f"Invalid value for `epochs`. Expected 1 or more. Received {epochs!r}."
            )
        self.augmentation, self.epochs = augmentation, epochs


def active(augmentations: Sequence[Augmentation | FirstEpochs], epoch: int) -> list[Augmentation]:
    """Those of ``augmentations`` that do not rest in ``epoch``, counted from 0; chains in parts."""
    found: list[Augmentation] = []
    for entry in augmentations:
        if isinstance(entry, FirstEpochs):
            if epoch >= entry.epochs:
                continue
            entry = entry.augmentation
        found += entry.parts if isinstance(entry, Chain) else [entry]
    return found
