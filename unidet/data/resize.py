"""The resizing rules of the public detectors: how large, and with which arithmetic.

Peers differ in both. The long-side limit rounds in four ways; some resize bytes and normalise
later, others the reverse; some antialias. A model that was trained with one rule loses accuracy
under another, so each is reproduced to rounding.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

Size = tuple[int, int]

#: Rules that work on bytes before normalisation.
BYTE_RULES = ("mmdet", "detectron2", "detr", "fixed")
#: Rules that work on normalised float32.
FLOAT_RULES = ("torchvision", "yhenon")
RULES = (*FLOAT_RULES, *BYTE_RULES, "none")
#: Rules that keep the aspect ratio and read a shortest and a longest side.
SIDE_RULES = (*FLOAT_RULES, "mmdet", "detectron2", "detr")


def resized_size(rule: str, size: Size, min_size: int, max_size: int) -> Size:
    """New ``(h, w)`` of a picture of ``size`` under a rule of ``SIDE_RULES``.

    Args:
        rule: name of the rule.
        size: ``(h, w)`` in pixels.
        min_size: target length of the shortest side.
        max_size: limit of the longest side.
    """
    short, long = min(size), max(size)
    if rule == "torchvision":
        ratio = min(min_size / short, max_size / long)
        new = [int(side * ratio) for side in size]
    elif rule == "mmdet":
        # There the shorter limit is for the shorter side, whichever order they are given in.
        ratio = min(
            max(min_size, max_size) / long,
            min(min_size, max_size) / short,
        )
        new = [int(side * ratio + 0.5) for side in size]
    elif rule == "detectron2":
        new = _detectron2(size, min_size, max_size)
    elif rule == "detr":
        new = _detr(size, min_size, max_size)
    else:
        new = [round(side * yhenon_scale(size, min_size, max_size)) for side in size]
    return max(new[0], 1), max(new[1], 1)


def yhenon_scale(size: Size, min_size: int, max_size: int) -> float:
    """One ratio for both sides, unrounded: boxes are multiplied by it."""
    ratio = min_size / min(size)
    return max_size / max(size) if max(size) * ratio > max_size else ratio


def _detectron2(size: Size, min_size: int, max_size: int) -> list[int]:
    h, w = size
    ratio = min_size / min(h, w)
    new: tuple[float, float] = (min_size, ratio * w) if h < w else (ratio * h, min_size)
    if max(new) > max_size:
        limit = max_size / max(new)
        new = (new[0] * limit, new[1] * limit)
    return [int(side + 0.5) for side in new]


def _detr(size: Size, min_size: int, max_size: int) -> list[int]:
    h, w = size
    short, long = float(min(h, w)), float(max(h, w))
    if long / short * min_size > max_size:
        min_size = round(max_size * short / long)
    if min(h, w) == min_size:
        return [h, w]
    if w < h:
        return [int(min_size * h / w), min_size]
    return [min_size, int(min_size * w / h)]


def resize_bytes(rule: str, image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes ``(h, w, 3)`` uint8 to ``size`` under a rule of ``BYTE_RULES``."""
    h, w = size
    if image.shape[:2] == (h, w):
        return image
    if rule == "mmdet":
        return cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    if rule in ("detectron2", "detr"):
        return np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    smaller = h <= image.shape[0] and w <= image.shape[1]
    return cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def resize_float(rule: str, image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes ``(h, w, 3)`` float32 to ``size`` under a rule of ``FLOAT_RULES``."""
    h, w = size
    if image.shape[:2] == (h, w):
        return image
    if rule == "torchvision":
        for axis in (0, 1):
            image = _blend(image, axis, *_torch_neighbours(image.shape[axis], size[axis]))
        return image
    return _skimage_like(image, size)


def _skimage_like(image: np.ndarray, size: Size) -> np.ndarray:
    """``skimage.transform.resize`` with its defaults: Gaussian when reducing, then linear.

    Coordinates outside the picture are mirrored about the centre of the edge pixel, and the
    result keeps to the range of the input.
    """
    low, high = image.min(), image.max()
    rows, columns = (_gaussian(old / new) for old, new in zip(image.shape, size))
    if len(rows) > 1 or len(columns) > 1:
        image = cv2.sepFilter2D(image, cv2.CV_32F, columns, rows, borderType=cv2.BORDER_REFLECT_101)
    for axis in (0, 1):
        image = _blend(image, axis, *_mirrored_neighbours(image.shape[axis], size[axis]))
    return np.clip(image, low, high)


def _blend(
    image: np.ndarray, axis: int, near: np.ndarray, far: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """``image[near] * (1 - weight) + image[far] * weight`` along one axis."""
    weight = weight.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    first, second = image.take(near, axis), image.take(far, axis)
    first *= 1 - weight
    second *= weight
    first += second
    return first


def _gaussian(factor: float) -> np.ndarray:
    """Weights out to four standard deviations, where the deviation is ``(factor - 1) / 2``."""
    sigma = max(0.0, (factor - 1) / 2)
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return np.ones(1, np.float64)
    at = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    return weights / weights.sum()


Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]


def _torch_neighbours(old: int, new: int) -> Neighbours:
    """Both neighbours of each new pixel and the weight of the second, edges repeated.

    torch holds coordinates in float32, which moves values by 1e-4 on pictures of 1000 pixels.
    """
    ratio = float(np.float32(old) / np.float32(new))
    at = (ratio * (np.arange(new) + 0.5) - 0.5).astype(np.float32).clip(0, None)
    near = np.minimum(at.astype(np.int64), old - 1)
    return near, np.minimum(near + 1, old - 1), (at - near).astype(np.float32)


def _mirrored_neighbours(old: int, new: int) -> Neighbours:
    """The same with coordinates mirrored about the centres of the edge pixels."""
    at = np.abs((np.arange(new) + 0.5) * (old / new) - 0.5)
    at = np.where(at > old - 1, 2 * (old - 1) - at, at).clip(0, None)
    near = at.astype(np.int64)
    return near, np.minimum(near + 1, old - 1), (at - near).astype(np.float32)
