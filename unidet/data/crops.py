"""Random windows of a picture, and the augmentation that DETR was trained with."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from unidet.data.resize import resize_bytes, resized_size
from unidet.data.transforms import (
    Chain,
    RandomResize,
    clip_targets,
    probability,
    scale_targets,
)
from unidet.structures import Targets

#: Shortest sides that DETR trains at.
DETR_SIZES = tuple(range(480, 801, 32))


class RandomSizeCrop:
    """Cuts out a window of random size at a random place.

    Boxes are clipped to the window and those without area in it are dropped.

    Args:
        sides: smallest and largest side in pixels, drawn for each side by itself with every whole
            number equally likely. A side of the picture that is shorter than the smallest stays.
        p: probability.
    """

    def __init__(self, sides: Sequence[int] = (384, 600), p: float = 1.0) -> None:
        self.sides = _two_sizes("sides", sides)
        self.p = probability(p)

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        chance, *place = rng.random(5)
        if chance >= self.p:
            return image, targets
        return self.crop(image, targets, place)

    def crop(
        self, image: np.ndarray, targets: Targets, place: Sequence[float]
    ) -> tuple[np.ndarray, Targets]:
        """Cuts out one window.

        Args:
            image: ``(h, w, 3)`` uint8.
            targets: boxes in its pixels.
            place: height, width, top and left as numbers in [0, 1).
        """
        h, w = image.shape[:2]
        rows, columns = self._side(h, place[0]), self._side(w, place[1])
        top = int(place[2] * (h - rows + 1))
        left = int(place[3] * (w - columns + 1))
        window = np.ascontiguousarray(image[top : top + rows, left : left + columns])
        offset = np.array([left, top, left, top], np.float32)
        moved = Targets(targets.boxes_xyxy - offset, targets.labels, targets.crowd, targets.ignore)
        clipped = clip_targets(moved, (rows, columns), 0.0)
        sides = clipped.boxes_xyxy[:, 2:] - clipped.boxes_xyxy[:, :2]
        return window, clipped[(sides > 0).all(axis=1)]

    def _side(self, length: int, share: float) -> int:
        high = min(length, self.sides[1])
        low = min(length, self.sides[0])
        return low + int(share * (high - low + 1))


def _sizes(name: str, values: Sequence[int]) -> tuple[int, ...]:
    whole = not isinstance(values, str) and all(isinstance(v, int) and v > 0 for v in values)
    if not whole or not values:
        raise ValueError(
            f"Invalid value for `{name}`. Expected whole sizes above 0. Received {values!r}."
        )
    return tuple(values)


def _two_sizes(name: str, values: Sequence[int]) -> tuple[int, int]:
    sizes = _sizes(name, values)
    if len(sizes) != 2 or sizes[0] > sizes[1]:
        raise ValueError(
            f"Invalid value for `{name}`. Expected two rising sizes above 0. Received {values!r}."
        )
    return sizes[0], sizes[1]


class ResizedCrop:
    """With probability ``p``, resizes by the shortest side and cuts out a window.

    Args:
        min_sizes: choices of the shortest side in pixels, equally likely; the longest has no
            limit.
        crop_sides: smallest and largest side of the window.
        p: probability.
    """

    def __init__(self, min_sizes: Sequence[int], crop_sides: Sequence[int], p: float) -> None:
        self._resize = RandomResize(min_sizes)
        self._crop = RandomSizeCrop(crop_sides, p)

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        min_size = self._resize.draw(rng)
        chance, *place = rng.random(5)
        if chance >= self._crop.p:
            return image, targets
        old = (image.shape[0], image.shape[1])
        new = resized_size("detr", old, min_size, sys.maxsize)
        resized = resize_bytes("detr", image, new)
        scaled = scale_targets(targets, (new[0] / old[0], new[1] / old[1]))
        return self._crop.crop(resized, scaled, place)


class DetrCropResize(Chain):
    """DETR's change of scale (Carion et al. 2020): half of the pictures are cropped first.

    The shortest side becomes one of ``min_sizes``. Before that, with probability ``p``, the
    picture is brought to one of ``before_crop_sizes`` by DETR's own rule and a window is cut out.
    Its flip is ``horizontal_flip``, in front of this.

    Args:
        min_sizes: as of :class:`RandomResize`, to which a loader treats it as equal.
        crop_sides: smallest and largest side of the window, in pixels.
        before_crop_sizes: choices of the shortest side before the cut, in pixels.
        max_size: limit of the longest side at the end where the picture itself is resized.
        p: probability of the cut.
    """

    def __init__(
        self,
        min_sizes: Sequence[int] = DETR_SIZES,
        crop_sides: Sequence[int] = (384, 600),
        before_crop_sizes: Sequence[int] = (400, 500, 600),
        max_size: int = 1333,
        p: float = 0.5,
    ) -> None:
        super().__init__(
            ResizedCrop(
                _sizes("before_crop_sizes", before_crop_sizes),
                _two_sizes("crop_sides", crop_sides),
                p,
            ),
            RandomResize(_sizes("min_sizes", min_sizes), _sizes("max_size", (max_size,))[0]),
        )
