"""Preprocessing of a photo for a network: part of a model's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from unidet.data.resize import (
    BYTE_RULES,
    FLOAT_RULES,
    RULES,
    SIDE_RULES,
    resize_bytes,
    resize_float,
    resized_size,
    yhenon_scale,
)
from unidet.errors import suggestion
from unidet.structures import Batch, Targets

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass
class Sample:
    """One image, ready to be stacked.

    Attributes:
        image: ``(3, h, w)`` float32, normalised, not padded.
        original_size: ``(h, w)`` on disk.
        scale: ``(sy, sx)``, input over original.
        targets: boxes in pixels of ``image``.
        image_id: of the annotation file.
        dataset_id: index of the data set.
        proposals: ``(n, 4)`` or, with scores, ``(n, 5)`` float32 in pixels of ``image``, or None.
    """

    image: np.ndarray
    original_size: tuple[int, int]
    scale: tuple[float, float]
    targets: Targets
    image_id: int = 0
    dataset_id: int = 0
    proposals: np.ndarray | None = None


@dataclass(frozen=True)
class Preprocess:
    """Resizes, normalises and pads.

    Attributes:
        mean: subtracted, in the network's channel order.
        std: divided by, in the network's channel order.
        scale: what pixels are divided by before that: 255 or 1.
        channel_order: "rgb" or "bgr", of the network.
        resize: "torchvision", "mmdet", "detectron2", "detr", "yhenon" (shortest side to
            ``min_size``, longest side at most ``max_size``, each with its peer's rounding and
            arithmetic), "fixed" (exactly ``size``, aspect ratio not kept) or "none".
        min_size: target length of the shortest side in pixels.
        max_size: limit of the longest side in pixels.
        size: ``(h, w)`` for "fixed".
        pad_divisor: sides of a batch are padded with zeros at the bottom and right to a multiple.
        pad_extra: an exact multiple gets one more ``pad_divisor`` (yhenon).
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    scale: float = 255.0
    channel_order: str = "rgb"
    resize: str = "torchvision"
    min_size: int = 800
    max_size: int = 1333
    size: tuple[int, int] | None = None
    pad_divisor: int = 32
    pad_extra: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std", "size"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        _check(len(self.mean) == 3, "mean", "three numbers", self.mean)
        _check(len(self.std) == 3 and all(self.std), "std", "three numbers, none 0", self.std)
        _check(self.scale > 0, "scale", "a number above 0", self.scale)
        _check(
            self.channel_order in ("rgb", "bgr"), "channel_order", "rgb or bgr", self.channel_order
        )
        _check(
            self.resize in RULES,
            "resize",
            f"one of {', '.join(RULES)}",
            self.resize,
            suggestion(str(self.resize), RULES),
        )
        _check(self.min_size > 0, "min_size", "a number above 0", self.min_size)
        _check(self.max_size > 0, "max_size", "a number above 0", self.max_size)
        _check(self.pad_divisor > 0, "pad_divisor", "a number above 0", self.pad_divisor)
        fits = self.size is not None and len(self.size) == 2 and min(self.size) > 0
        _check(fits == (self.resize == "fixed"), "size", "(h, w) with resize='fixed'", self.size)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Preprocess:
        """The default of a peer, one of ``PRESETS``, with ``changes``."""
        _check(
            name in PRESETS,
            "name",
            f"one of {', '.join(PRESETS)}",
            name,
            suggestion(name, PRESETS),
        )
        return cls(**{**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """All fields, in JSON's types."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """Inverse of :meth:`to_dict`; unknown keys raise ``ValueError``."""
        known = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            _check(
                key in known, "preprocess", f"keys {', '.join(known)}", key, suggestion(key, known)
            )
        return cls(**values)

    def new_size(self, size: tuple[int, int], min_size: int | None = None) -> tuple[int, int]:
        """``(h, w)`` after resizing a picture of ``size``, before padding."""
        if self.resize in SIDE_RULES:
            return resized_size(self.resize, size, min_size or self.min_size, self.max_size)
        return size if self.size is None else self.size

    def apply(
        self, image: np.ndarray, *, min_size: int | None = None
    ) -> tuple[np.ndarray, tuple[int, int], tuple[float, float]]:
        """Resizes and normalises one picture.

        Args:
            image: ``(h, w, 3)`` uint8 RGB.
            min_size: takes the place of the configured one (multi-scale training).

        Returns:
            ``(3, h', w')`` float32 C-contiguous; ``(h', w')``; ``(sy, sx)``, new over old size.

        Raises:
            ValueError: not a ``(h, w, 3)`` uint8 array, or no pixels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                "Invalid value for `image`. Expected uint8 of shape (h, w, 3). "
                f"Received {image.dtype} of shape {image.shape}."
            )
        old = (image.shape[0], image.shape[1])
        new = self.new_size(old, min_size)
        if self.resize in BYTE_RULES:
            image = resize_bytes(self.resize, image, new)
        chw = self._normalise(image)
        if self.resize in FLOAT_RULES:
            chw = _to_chw(resize_float(self.resize, chw, new))
        else:
            chw = _to_chw(chw)
        if self.resize == "yhenon":
            ratio = yhenon_scale(old, min_size or self.min_size, self.max_size)
            return chw, new, (ratio, ratio)
        return chw, new, (new[0] / old[0], new[1] / old[1])

    @cached_property
    def _table(self) -> np.ndarray:
        """``(1, 256, 3)`` float32: value of each byte in each channel, in RGB order."""
        mean, std = (np.array(v, np.float64) for v in (self.mean, self.std))
        if self.channel_order == "bgr":
            mean, std = mean[::-1], std[::-1]
        levels = np.arange(256, dtype=np.float64)[:, None] / self.scale
        return np.ascontiguousarray(((levels - mean) / std).astype(np.float32)[None])

    def _normalise(self, image: np.ndarray) -> np.ndarray:
        """``(h, w, 3)`` uint8 RGB to float32 in the network's channel order."""
        out = cv2.LUT(image, self._table)
        return cv2.cvtColor(out, cv2.COLOR_RGB2BGR) if self.channel_order == "bgr" else out

    def pad_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """``(H, W)`` of a batch that holds pictures of ``sizes``."""
        d = self.pad_divisor
        sides = (max(s[0] for s in sizes), max(s[1] for s in sizes))
        if self.pad_extra:
            return sides[0] // d * d + d, sides[1] // d * d + d
        return -(-sides[0] // d) * d, -(-sides[1] // d) * d

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Stacks pictures, padded with zeros at the bottom and right."""
        if not samples:
            raise ValueError("Invalid value for `samples`. Expected at least one. Received none.")
        sizes = [(s.image.shape[1], s.image.shape[2]) for s in samples]
        images = np.zeros((len(samples), 3, *self.pad_size(sizes)), np.float32)
        for slot, sample, (h, w) in zip(images, samples, sizes):
            slot[:, :h, :w] = sample.image
        return Batch(
            images=images,
            image_sizes=sizes,
            original_sizes=[s.original_size for s in samples],
            scales=[s.scale for s in samples],
            targets=[s.targets for s in samples],
            image_ids=[s.image_id for s in samples],
            dataset_ids=[s.dataset_id for s in samples],
            proposals=[s.proposals for s in samples if s.proposals is not None],
        )

    def batch(self, images: Sequence[np.ndarray]) -> Batch:
        """Pictures without ground truth, ``(h, w, 3)`` uint8 RGB each, to a batch."""
        samples = []
        for i, image in enumerate(images):
            chw, _, scale = self.apply(image)
            none = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
            samples.append(Sample(chw, (image.shape[0], image.shape[1]), scale, none, image_id=i))
        return self.collate(samples)


def _to_chw(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _check(good: bool, name: str, expected: str, received: Any, hint: str = "") -> None:
    if not good:
        raise ValueError(
            f"Invalid value for `{name}`. Expected {expected}. Received {received!r}.{hint}"
        )


_BYTES_MEAN = (123.675, 116.28, 103.53)
_CAFFE = {"mean": _BYTES_MEAN[::-1], "std": (1.0, 1.0, 1.0), "scale": 1.0, "channel_order": "bgr"}

#: What the peers do at test time by default.
PRESETS: dict[str, dict[str, Any]] = {
    "unidetector": {
        "resize": "mmdet",
        "mean": (122.7709383, 116.7460125, 104.09373615),  # CLIP's
        "std": (68.5005327, 66.6321579, 70.32316305),
        "scale": 1.0,
    },
    "torchvision": {"resize": "torchvision"},
    "mmdet": {
        "resize": "mmdet",
        "mean": _BYTES_MEAN,
        "std": (58.395, 57.12, 57.375),
        "scale": 1.0,
    },
    "mmdet_caffe": {"resize": "mmdet", **_CAFFE},
    "detectron2": {"resize": "detectron2", **_CAFFE},
    "detr": {"resize": "detr", "pad_divisor": 1},
    "yhenon": {"resize": "yhenon", "min_size": 608, "max_size": 1024, "pad_extra": True},
}


def with_statistics(preprocess: Preprocess, name: str) -> Preprocess:
    """The same preprocessing with other means and deviations of the pixels.

    Args:
        preprocess: of a model.
        name: "clip" or "imagenet".
    """
    source = PRESETS["unidetector" if name == "clip" else "mmdet"]
    order = slice(None, None, -1 if preprocess.channel_order == "bgr" else 1)
    mean, std = (
        tuple(value / preprocess.scale for value in source[key][order]) for key in ("mean", "std")
    )
    return dataclasses.replace(preprocess, mean=mean, std=std)
