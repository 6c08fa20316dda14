"""Reductions of ``numpy.ndarray``. Signatures and meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Axis = int | Sequence[int] | None


def _axes(axis: Axis) -> int | tuple[int, ...] | None:
    return axis if axis is None or isinstance(axis, int) else tuple(axis)


def sum(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    # NumPy adds pairwise.
    return np.sum(_wide(x), axis=_axes(axis), keepdims=keepdims)


def _wide(x: np.ndarray) -> np.ndarray:
    return x if x.dtype.kind == "f" else x.astype(np.int64)


def mean(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    if x.dtype.kind != "f":
        raise TypeError(f"Invalid value for `x`. Expected a floating tensor. Received {x.dtype}.")
    total = np.asarray(sum(x, axis, keepdims))
    with np.errstate(invalid="ignore"):
        return total / total.dtype.type(_count(x, axis))


def _count(x: np.ndarray, axis: Axis) -> int:
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis)
    return int(np.prod([x.shape[a] for a in axes], dtype=np.int64))


def max(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    return np.max(x, axis=_axes(axis), keepdims=keepdims)


def min(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    return np.min(x, axis=_axes(axis), keepdims=keepdims)


def any(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    return np.any(x, axis=_axes(axis), keepdims=keepdims)


def all(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
    return np.all(x, axis=_axes(axis), keepdims=keepdims)


def var(
    x: np.ndarray, axis: Axis = None, keepdims: bool = False, correction: int = 0
) -> np.ndarray:
    deviation = x - mean(x, axis, True)
    total = np.asarray(sum(deviation * deviation, axis, keepdims))
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / total.dtype.type(_count(x, axis) - correction)


def argmax(x: np.ndarray, axis: int) -> np.ndarray:
    return np.argmax(x, axis=axis)


def argmin(x: np.ndarray, axis: int) -> np.ndarray:
    return np.argmin(x, axis=axis)


def cumsum(x: np.ndarray, axis: int) -> np.ndarray:
    return np.cumsum(_wide(x), axis=axis)
