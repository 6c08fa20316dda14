"""RoIAlign sample by sample: the judge of the kernel and of the composite form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unidet.backends.kernels import roi_align as roi_kernels


def roi_align(
    features: np.ndarray,
    boxes: np.ndarray,
    indices: np.ndarray,
    size: int | tuple[int, int],
    *,
    scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> np.ndarray:
    levels = np.zeros(len(boxes), np.int64)
    return roi_align_levels(
        [features], boxes, indices, levels, size,
        scales=(scale,), sampling_ratio=sampling_ratio, aligned=aligned,
    )  # fmt: skip


def roi_align_levels(
    features: Sequence[np.ndarray],
    boxes: np.ndarray,
    indices: np.ndarray,
    levels: np.ndarray,
    size: int | tuple[int, int],
    *,
    scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> np.ndarray:
    options = roi_kernels.options_of(size, scales, sampling_ratio, aligned)
    roi_kernels.check_shapes(features, boxes, indices, levels, scales)
    dtype = features[0].dtype
    roi_kernels.host_regions(boxes, indices, levels, len(features[0]), len(features), dtype.name)
    out = np.zeros((len(boxes), features[0].shape[1], *options.size), dtype)
    for i, box in enumerate(boxes.astype(dtype)):
        scale = dtype.type(options.scales[levels[i]])
        out[i] = _one(features[levels[i]][indices[i]], box * scale, options)
    return out


def _one(image: np.ndarray, box: np.ndarray, options: roi_kernels.Options) -> np.ndarray:
    """``(C, rows, columns)`` of one box in pixels of the map ``(C, H, W)``."""
    offset = box.dtype.type(0.5 if options.aligned else 0)
    x1, y1, x2, y2 = box - offset
    rows = _samples(y1, y2, options.size[0], options)
    columns = _samples(x1, x2, options.size[1], options)
    if 0 in (rows.shape[1], columns.shape[1]):
        return np.zeros((len(image), *options.size), image.dtype)
    values = _bilinear(image, rows.reshape(-1), columns.reshape(-1))
    return values.reshape(len(image), *rows.shape, *columns.shape).mean((2, 4))


def _samples(
    low: np.floating, high: np.floating, cells: int, options: roi_kernels.Options
) -> np.ndarray:
    """``(cells, samples)`` positions along one axis."""
    real = type(low)
    length = high - low if options.aligned else max(high - low, real(1))
    step = length / real(cells)
    count = options.sampling_ratio or max(int(np.ceil(length / real(cells))), 0)
    inside = (np.arange(count, dtype=real) + real(0.5)) * step / real(max(count, 1))
    return low + np.arange(cells, dtype=real)[:, None] * step + inside


def _bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``(C, rows, columns)`` at every y with every x; 0 beyond one pixel outside the map."""
    height, width = image.shape[1:]
    inside = ((y >= -1) & (y <= height))[:, None] & ((x >= -1) & (x <= width))
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = y.astype(int), x.astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (y - top)[:, None], x - left
    above = image[:, top][:, :, left] * (1 - across) + image[:, top][:, :, right] * across
    below = image[:, bottom][:, :, left] * (1 - across) + image[:, bottom][:, :, right] * across
    return (above * (1 - down) + below * down) * inside
