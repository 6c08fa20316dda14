"""RoIAlign on the host: the shapes and checks that all backends share, and the compiled kernel.

The kernel (``csrc/roi_align.cpp``) works on NCHW and on channels-last memory without copying the
whole; which of the two an array is, its strides say. Results depend neither on the number of
threads nor on the layout of the cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import kernels

_FAILURES = {
    -2: "Invalid value for `indices`. Expected images of the batch. Received one outside it.",
    -3: "Invalid value for `boxes`. Expected finite coordinates. Received NaN or infinity.",
}


@dataclass(frozen=True)
class Options:
    """How boxes are sampled.

    Attributes:
        size: rows and columns of cells.
        scales: pixels of each map per pixel of the input.
        sampling_ratio: samples along each side of a cell; 0: as many as the cell is long.
        aligned: whether pixel centres lie at half coordinates.
    """

    size: tuple[int, int]
    scales: tuple[float, ...]
    sampling_ratio: int
    aligned: bool


def options_of(
    size: int | tuple[int, int], scales: Sequence[float], sampling_ratio: int, aligned: bool
) -> Options:
    """The options in one form.

    Raises:
        ValueError: a number does not fit.
    """
    cells = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(cells) != 2 or min(cells) < 1:
        raise ValueError(
            f"Invalid value for `size`. Expected 1 or more rows and columns. Received {size}."
        )
    if not all(0 < scale < float("inf") for scale in scales):
        raise ValueError(f"Invalid value for `scale`. Expected more than 0. Received {scales}.")
    if sampling_ratio < 0:
        raise ValueError(
            f"Invalid value for `sampling_ratio`. Expected 0 or more. Received {sampling_ratio}."
        )
    numbers = tuple(float(scale) for scale in scales)
    return Options((int(cells[0]), int(cells[1])), numbers, int(sampling_ratio), bool(aligned))


def check_shapes(
    features: Sequence[Any], boxes: Any, indices: Any, levels: Any, scales: Sequence[float]
) -> None:
    """Looks at shapes alone, which costs no synchronisation.

    Raises:
        ValueError: a shape does not fit the others.
    """
    if not features or len(features) != len(scales):
        raise ValueError(
            "Invalid value for `scales`. Expected one for each map, and at least one map. "
            f"Received {len(scales)} for {len(features)} maps."
        )
    first = tuple(features[0].shape)
    for feature in features:
        shape = tuple(feature.shape)
        if len(shape) != 4 or shape[:2] != first[:2] or 0 in shape[2:]:
            raise ValueError(
                "Invalid value for `features`. Expected (N, C, H, W), with the same N and C for "
                f"all maps and no empty one. Received {shape}."
            )
    count = boxes.shape[0] if len(boxes.shape) == 2 else -1
    if count < 0 or boxes.shape[1] != 4:
        raise ValueError(
            f"Invalid value for `boxes`. Expected shape (R, 4). Received {tuple(boxes.shape)}."
        )
    for name, value in (("indices", indices), ("levels", levels)):
        if value is not None and tuple(value.shape) != (count,):
            raise ValueError(
                f"Invalid value for `{name}`. Expected shape ({count},), one for each box. "
                f"Received {tuple(value.shape)}."
            )


def host_regions(
    boxes: np.ndarray,
    indices: np.ndarray,
    levels: np.ndarray | None,
    images: int,
    maps: int,
    dtype: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Checked boxes in ``dtype``, and image and map numbers as int64, all contiguous.

    Raises:
        TypeError: image or map numbers are no integers.
        ValueError: a box is not finite, or its image or map does not exist.
    """
    boxes = np.ascontiguousarray(boxes, dtype)
    if not np.isfinite(boxes).all():
        raise ValueError(_FAILURES[-3])
    image_numbers = _numbers("indices", indices, images)
    map_numbers = None if levels is None else _numbers("levels", levels, maps)
    return boxes, image_numbers, map_numbers


def _numbers(name: str, values: np.ndarray, count: int) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise TypeError(f"Invalid value for `{name}`. Expected integers. Received {values.dtype}.")
    if values.size and not (values.min() >= 0 and values.max() < count):
        raise ValueError(
            f"Invalid value for `{name}`. Expected 0 to {count - 1}. "
            f"Received {values.min()} to {values.max()}."
        )
    return np.ascontiguousarray(values, np.int64)


def channels_last(array: np.ndarray) -> bool:
    """Whether ``(N, C, H, W)`` lies in memory with its channels innermost.

    Raises:
        ValueError: it lies neither so nor in plain order.
    """
    if array.flags.c_contiguous:
        return False
    if array.transpose(0, 2, 3, 1).flags.c_contiguous:
        return True
    raise ValueError(
        "Invalid memory. Expected NCHW or channels-last order. "
        f"Received strides {array.strides} of shape {array.shape}."
    )


def forward(
    features: Sequence[np.ndarray],
    boxes: np.ndarray,
    indices: np.ndarray,
    levels: np.ndarray | None,
    options: Options,
    out: np.ndarray,
    threads: int | None = None,
) -> None:
    """Writes the cells of all boxes into ``out``.

    Args:
        features: maps ``(N, C, H_l, W_l)``, float32 or float64.
        boxes: ``(R, 4)`` of the same dtype, x1, y1, x2, y2 in pixels of the input.
        indices: ``(R,)`` int64, the image of each box.
        levels: ``(R,)`` int64, the map of each box; None: the only one.
        options: how boxes are sampled.
        out: ``(R, C, rows, columns)``.
        threads: OpenMP threads; by default what OpenMP offers.

    Raises:
        ValueError: a box is not finite, or its image or map does not exist.
    """
    regions = host_regions(boxes, indices, levels, len(features[0]), len(features), out.dtype.name)
    for level, feature in enumerate(features):
        _call("roi_align", feature, regions, level, options, feature, out, out, threads)


def backward(
    gradient: np.ndarray,
    boxes: np.ndarray,
    indices: np.ndarray,
    levels: np.ndarray | None,
    options: Options,
    outs: Sequence[np.ndarray],
    threads: int | None = None,
) -> None:
    """Writes the gradients of the maps into ``outs``; see :func:`forward`.

    Args:
        gradient: ``(R, C, rows, columns)``, of the cells.
        outs: ``(N, C, H_l, W_l)``, one for each map; what they hold is overwritten.
    """
    dtype = gradient.dtype.name
    regions = host_regions(boxes, indices, levels, len(outs[0]), len(outs), dtype)
    for level, out in enumerate(outs):
        _call("roi_align_backward", gradient, regions, level, options, out, gradient, out, threads)


def _call(
    name: str,
    source: np.ndarray,
    regions: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    level: int,
    options: Options,
    map_: np.ndarray,
    cells: np.ndarray,
    out: np.ndarray,
    threads: int | None,
) -> None:
    boxes, indices, levels = regions
    threads = kernels.max_threads() if threads is None else threads
    sizes = np.array(
        [*map_.shape, *options.size, len(boxes), level, options.sampling_ratio, threads], np.int64
    )
    flags = options.aligned + 2 * channels_last(map_) + 4 * channels_last(cells)
    status = function(name, out.dtype.name)(
        source.ctypes.data,
        boxes.ctypes.data,
        indices.ctypes.data,
        None if levels is None else levels.ctypes.data,
        sizes.ctypes.data,
        options.scales[level],
        flags,
        out.ctypes.data,
    )
    if status in _FAILURES:
        raise ValueError(_FAILURES[status])
    if status:
        raise MemoryError(f"Not enough memory for {name} of {len(boxes)} boxes.")


def function(name: str, dtype: str) -> Any:
    """The compiled ``roi_align`` or ``roi_align_backward`` for "float32" or "float64".

    Raises:
        TypeError: there is none for this dtype.
        RuntimeError: the library is not there.
    """
    suffix = {"float32": "f32", "float64": "f64"}.get(dtype)
    if suffix is None:
        raise TypeError(f"Invalid dtype. Expected float32 or float64. Received {dtype}.")
    library = kernels.library()
    if library is None:
        raise RuntimeError("The compiled kernel library is not there; `unidet doctor` says more.")
    return getattr(library, f"unidet_{name}_{suffix}")
