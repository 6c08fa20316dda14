"""RoIAlign written in the plain operations, the same on every backend and differentiable.

All maps become one table of pixels, a row of channels each. A cell is a weighted sum of a few rows;
which ones and how much is worked out on the host. Boxes whose cells have about as many taps are
taken together, so that a small box does not pay for a large one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unidet.backends import ops
from unidet.backends.kernels import roi_align as roi_kernels
from unidet.backends.ops import Tensor

#: Rows that are gathered for each cell at once; more would cost memory.
_CHUNK = 8


def roi_align_levels(
    features: Sequence[Tensor],
    boxes: np.ndarray,
    indices: np.ndarray,
    levels: np.ndarray | None,
    options: roi_kernels.Options,
) -> Tensor:
    """See :func:`unidet.backends.ops.roi_align_levels`.

    Args:
        features: maps ``(N, C, H_l, W_l)``.
        boxes: ``(R, 4)`` in pixels of the input.
        indices: ``(R,)`` image of each box.
        levels: ``(R,)`` map of each box; None: the only one.
        options: how boxes are sampled.
    """
    shapes = [ops.shape(feature) for feature in features]
    images, channels = shapes[0][:2]
    # Half types would round the places of the samples.
    dtype = "float64" if ops.dtype(features[0]) == "float64" else "float32"
    boxes, indices, levels = roi_kernels.host_regions(
        boxes, indices, levels, images, len(features), dtype
    )
    flat = [ops.reshape(ops.transpose(f, (0, 2, 3, 1)), (-1, channels)) for f in features]
    table = flat[0] if len(flat) == 1 else ops.concat(flat, 0)
    starts = np.cumsum([0, *(images * h * w for _, _, h, w in shapes)])
    buckets: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for i, box in enumerate(boxes):
        level = 0 if levels is None else levels[i]
        height, width = shapes[level][2:]
        rows, weights = taps(box, height, width, options, options.scales[level])
        rows = rows + (starts[level] + indices[i] * height * width)
        size = 1 << (rows.shape[1] - 1).bit_length()
        buckets.setdefault(size, []).append((i, rows, weights))
    parts, order = [], []
    for size, members in sorted(buckets.items()):
        parts.append(_sums(table, [m[1] for m in members], [m[2] for m in members], size))
        order += [m[0] for m in members]
    if not parts:
        cells = ops.take(table, np.zeros(0, np.int64))
        return ops.reshape(cells, (0, channels, *options.size))
    cells = parts[0] if len(parts) == 1 else ops.concat(parts, 0)
    cells = ops.reshape(cells, (len(boxes), *options.size, channels))
    return ops.transpose(ops.take(cells, np.argsort(order)), (0, 3, 1, 2))


def _sums(table: Tensor, rows: list[np.ndarray], weights: list[np.ndarray], size: int) -> Tensor:
    """Weighted sums of rows of the table; lists shorter than ``size`` are filled with zeros."""
    widen = [((0, 0), (0, size - part.shape[1])) for part in rows]
    index = np.concatenate([np.pad(part, width) for part, width in zip(rows, widen)])
    weight = np.concatenate([np.pad(part, width) for part, width in zip(weights, widen)])
    total = None
    for k in range(0, size, _CHUNK):
        part = index[:, k : k + _CHUNK]
        found = ops.reshape(ops.take(table, part.reshape(-1)), (*part.shape, -1))
        factor = ops.asarray(weight[:, k : k + _CHUNK, None], ops.dtype(table), like=table)
        term = ops.sum(found * factor, axis=1)
        total = term if total is None else total + term
    return total


def taps(
    box: np.ndarray, height: int, width: int, options: roi_kernels.Options, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """``(cells, taps)`` pixels of an image and their weights."""
    real = box.dtype.type
    x1, y1, x2, y2 = box * real(scale) - real(0.5 if options.aligned else 0)
    y, down, vertical = _axis(y1, y2, options.size[0], height, options)
    x, across, horizontal = _axis(x1, x2, options.size[1], width, options)
    pixels = y[:, None, :, None] * width + x[None, :, None, :]
    weights = down[:, None, :, None] * across[None, :, None, :]
    cells = options.size[0] * options.size[1]
    count = max(vertical * horizontal, 1.0)
    return pixels.reshape(cells, -1), weights.reshape(cells, -1) / real(count)


def _axis(
    low: np.floating, high: np.floating, bins: int, extent: int, options: roi_kernels.Options
) -> tuple[np.ndarray, np.ndarray, float]:
    """``(bins, taps)`` pixels of one axis with their weights, and the number of samples."""
    real = type(low)
    length = high - low if options.aligned else max(high - low, real(1))
    step = length / real(bins)
    grid = real(options.sampling_ratio) or np.ceil(length / real(bins))
    dense = np.zeros((bins, extent), real)
    for b in range(bins):
        edge = low + real(b) * step
        start, stop = 0, max(int(grid), 0)
        if stop > 64 and step > 0:
            # Of a box that is far larger than the map, most samples lie outside.
            pace = float(step) / float(grid)
            start = min(stop, max(0, int((-1 - edge) / pace) - 2))
            stop = max(start, min(stop, int((extent - edge) / pace) + 3))
        at = edge + (np.arange(start, stop, dtype=real) + real(0.5)) * step / (grid or real(1))
        at = np.maximum(at[(at >= -1) & (at <= extent)], 0)
        left = np.minimum(at.astype(np.int64), extent - 1)
        beyond = np.where(left == extent - 1, 0, at - left).astype(real)
        np.add.at(dense[b], left, 1 - beyond)
        np.add.at(dense[b], np.minimum(left + 1, extent - 1), beyond)
    most = max(int((dense != 0).sum(1).max()), 1)
    pixels = np.argsort(dense == 0, axis=1, kind="stable")[:, :most]
    return pixels, np.take_along_axis(dense, pixels, 1), max(float(grid), 0.0)
