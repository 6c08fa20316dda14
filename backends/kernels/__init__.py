"""Suppression and matching of boxes on the host: NumPy arrays in, NumPy arrays out.

The work is done by the C++ library that installation puts beside this file. Where it is absent
(no compiler at installation) NumPy forms with the same results take over.

All functions share these rules. Boxes are rows ``x1, y1, x2, y2`` in any unit, without the "+1" of
pixel grids. A box is suppressed when its IoU with a kept box *exceeds* the threshold. Equal scores
are ordered by index. A NaN score sorts last. An overlap that is not a number, because a box has a
NaN or two boxes have no area, counts as none: such a box suppresses nothing and survives.
float32 is computed in float32 and float64 in float64; other floating types in float32.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from unidet.backends.kernels import fallback

#: Forms of soft-NMS, by the number that the library knows them by.
SOFT_METHODS = {"hard": 0, "linear": 1, "gaussian": 2}

#: Set to "0" to use the NumPy forms although the library is there.
ENVIRONMENT_VARIABLE = "UNIDET_KERNELS"

_SUFFIX = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


@functools.cache
def library_path() -> Path | None:
    """Where the compiled library lies, or None where installation built none."""
    found = sorted(
        path
        for pattern in ("_kernels*.so", "_kernels*.pyd")
        for path in Path(__file__).parent.glob(pattern)
    )
    return next((path for path in found if path.name.endswith(_extension_suffixes())), None)


def _extension_suffixes() -> tuple[str, ...]:
    from importlib.machinery import EXTENSION_SUFFIXES

    return tuple(f"_kernels{suffix}" for suffix in EXTENSION_SUFFIXES)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None where it is missing or does not load."""
    path = library_path()
    if path is None:
        return None
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:
        # Built for another machine or without its OpenMP runtime; `unidet doctor` reports it.
        return None
    try:
        return _declared(loaded)
    except AttributeError:
        # An older build, without one of the functions.
        return None


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the signatures of its functions."""
    pointer, size, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    signatures = {
        "nms": [pointer, pointer, size, real, pointer],
        "batched_nms": [pointer, pointer, pointer, size, real, ctypes.c_int, pointer],
        "soft_nms": [
            pointer, pointer, size, real, real, real, ctypes.c_int, pointer, pointer,
        ],
        "match": [pointer, size, pointer, size, real, pointer, pointer, pointer],
        "roi_align": [pointer] * 5 + [real, size, pointer],
        "roi_align_backward": [pointer] * 5 + [real, size, pointer],
    }  # fmt: skip
    for suffix in _SUFFIX.values():
        for name, arguments in signatures.items():
            function = getattr(loaded, f"unidet_{name}_{suffix}")
            function.argtypes, function.restype = arguments, size
    loaded.unidet_max_threads.argtypes, loaded.unidet_max_threads.restype = [], ctypes.c_int
    return loaded


def available() -> bool:
    """Whether the compiled library is installed, loads and is not turned off."""
    return os.environ.get(ENVIRONMENT_VARIABLE) != "0" and library() is not None


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression.

    Args:
        boxes: ``(n, 4)`` floating.
        scores: ``(n,)`` floating.
        iou_threshold: in [0, 1].

    Returns:
        ``(kept,)`` int64 indices by falling score, then rising index.

    Raises:
        TypeError: an argument is not an array of real numbers.
        ValueError: a shape or the threshold does not fit.
    """
    boxes, scores = _boxes_and_scores(boxes, scores)
    threshold = _fraction("iou_threshold", iou_threshold)
    if not available():
        return fallback.nms(boxes, scores, threshold)
    kept = np.empty(len(boxes), np.int64)
    return _call("nms", boxes, boxes, scores, len(boxes), threshold, out=(kept,))[0]


def batched_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    iou_threshold: float,
    *,
    threads: int | None = None,
) -> np.ndarray:
    """Greedy suppression within each class; boxes of different classes never meet.

    Grouping happens inside the kernel, without shifting boxes by a per-class offset, so large
    coordinates lose no precision and boxes outside the image are treated like any other.

    Args:
        boxes: ``(n, 4)`` floating.
        scores: ``(n,)`` floating.
        classes: ``(n,)`` integers, any values.
        iou_threshold: in [0, 1].
        threads: OpenMP threads; by default what OpenMP offers.

    Returns:
        ``(kept,)`` int64 indices of all classes by falling score, then rising index.

    Raises:
        TypeError: an argument is not an array of real numbers, or ``classes`` not of integers.
        ValueError: a shape, the threshold or the number of threads does not fit.
    """
    boxes, scores = _boxes_and_scores(boxes, scores)
    threshold = _fraction("iou_threshold", iou_threshold)
    classes = _classes(classes, len(boxes))
    if threads is not None and threads < 1:
        raise ValueError(f"Invalid value for `threads`. Expected 1 or more. Received {threads}.")
    if not available():
        return fallback.batched_nms(boxes, scores, classes, threshold)
    kept = np.empty(len(boxes), np.int64)
    count = max_threads() if threads is None else threads
    return _call(
        "batched_nms", boxes, boxes, scores, classes, len(boxes), threshold, count, out=(kept,)
    )[0]


def soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[np.ndarray, np.ndarray]:
    """Soft non-maximum suppression (Bodla et al., ICCV 2017).

    The best box is kept and the scores of those that overlap it fall, again and again. A box whose
    score is not at least ``score_threshold``, at the start or later, is dropped; NaN scores are.

    Args:
        boxes: ``(n, 4)`` floating.
        scores: ``(n,)`` floating.
        iou_threshold: overlap from which "linear" and "hard" act, in [0, 1].
        sigma: width of "gaussian", positive.
        score_threshold: lowest score kept, zero or more.
        method: "linear" (times ``1 - iou``), "gaussian" (times ``exp(-iou^2 / sigma)``) or "hard"
            (dropped, which is :func:`nms`).

    Returns:
        ``(kept,)`` int64 indices in the order of selection (lowest index first on ties) and
        ``(kept,)`` decayed scores in the dtype of the computation.

    Raises:
        TypeError: an argument is not an array of real numbers.
        ValueError: a shape, a threshold, ``sigma`` or ``method`` does not fit.
    """
    boxes, scores = _boxes_and_scores(boxes, scores)
    threshold = _fraction("iou_threshold", iou_threshold)
    if not sigma > 0:
        raise ValueError(f"Invalid value for `sigma`. Expected more than 0. Received {sigma}.")
    if not score_threshold >= 0:
        raise ValueError(
            f"Invalid value for `score_threshold`. Expected 0 or more. Received {score_threshold}."
        )
    if method not in SOFT_METHODS:
        raise ValueError(
            f"Invalid value for `method`. Expected one of {', '.join(SOFT_METHODS)}. "
            f"Received {method!r}."
        )
    if not available():
        return fallback.soft_nms(boxes, scores, threshold, sigma, score_threshold, method)
    kept, kept_scores = np.empty(len(boxes), np.int64), np.empty(len(boxes), boxes.dtype)
    arguments = (boxes, scores, len(boxes), threshold, sigma, score_threshold, SOFT_METHODS[method])
    return _call("soft_nms", boxes, *arguments, out=(kept, kept_scores))


def match(
    boxes: np.ndarray, objects: np.ndarray, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whom each box overlaps most, and who overlaps each object most.

    Args:
        boxes: ``(n, 4)`` floating, anchors or proposals.
        objects: ``(m, 4)`` floating.
        least: IoU that an object's best boxes must reach to be its favourites, in [0, 1].

    Returns:
        For each box, ``(n,)``: its highest IoU with an object, in the dtype of the computation, 0
        where it meets none; int64, the first object with that IoU, or -1; int64, the last object
        that no box overlaps more, or -1.

    Raises:
        TypeError: an argument is not an array of real numbers.
        ValueError: a shape or ``least`` does not fit.
    """
    boxes, objects = _rows_of_four("boxes", boxes), _rows_of_four("objects", objects)
    least = _fraction("least", least)
    dtype = np.float64 if np.float64 in (boxes.dtype, objects.dtype) else np.float32
    boxes, objects = np.ascontiguousarray(boxes, dtype), np.ascontiguousarray(objects, dtype)
    if not available():
        return fallback.match(boxes, objects, least)
    count = len(boxes)
    found = (np.empty(count, dtype), np.empty(count, np.int64), np.empty(count, np.int64))
    best, owner, favourite = _call(
        "match", boxes, boxes, count, objects, len(objects), least, out=found
    )
    return best, owner, favourite


def max_threads() -> int:
    """Threads that OpenMP offers; 1 without the library."""
    loaded = library()
    return 1 if loaded is None else loaded.unidet_max_threads()


def _call(name: str, typed: np.ndarray, *arguments: Any, out: tuple[np.ndarray, ...]) -> Any:
    function = getattr(library(), f"unidet_{name}_{_SUFFIX[typed.dtype]}")
    count = function(
        *(value.ctypes.data if isinstance(value, np.ndarray) else value for value in arguments),
        *(array.ctypes.data for array in out),
    )
    if count < 0:
        raise MemoryError(f"Not enough memory for {name} of {len(typed)} boxes.")
    return tuple(array if count == len(array) else array[:count].copy() for array in out)


def _boxes_and_scores(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    boxes, scores = _rows_of_four("boxes", boxes), _real("scores", scores)
    if scores.shape != (len(boxes),):
        raise ValueError(
            f"Invalid value for `scores`. Expected shape ({len(boxes)},), one for each box. "
            f"Received {scores.shape}."
        )
    if len(boxes) >= 2**32:
        raise ValueError(
            f"Invalid value for `boxes`. Expected fewer than 2^32 rows. Received {len(boxes)}."
        )
    wide = np.float64 in (boxes.dtype, scores.dtype)
    dtype = np.float64 if wide else np.float32
    return np.ascontiguousarray(boxes, dtype), np.ascontiguousarray(scores, dtype)


def _rows_of_four(name: str, value: np.ndarray) -> np.ndarray:
    array = _real(name, value)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(
            f"Invalid value for `{name}`. Expected shape (n, 4). Received {array.shape}."
        )
    return array


def _real(name: str, value: np.ndarray) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(
            f"Invalid value for `{name}`. Expected an array of floating numbers. "
            f"Received {array.dtype}."
        )
    return array


def _classes(value: np.ndarray, count: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"Invalid value for `classes`. Expected an array of integers. Received {array.dtype}."
        )
    if array.shape != (count,):
        raise ValueError(
            f"Invalid value for `classes`. Expected shape ({count},), one for each box. "
            f"Received {array.shape}."
        )
    return np.ascontiguousarray(array, np.int64)


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(
            f"Invalid value for `{name}`. Expected a number in [0, 1]. Received {value}."
        )
    return float(value)
