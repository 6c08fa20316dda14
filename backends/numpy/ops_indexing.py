"""Order and indexing of ``numpy.ndarray``. Meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

import numpy as np


def argsort(x: np.ndarray, axis: int = -1, descending: bool = False) -> np.ndarray:
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # Sorted backwards and read from the end: lower indices first at ties, NaN before everything.
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backwards, axis)


def sort(x: np.ndarray, axis: int = -1, descending: bool = False) -> np.ndarray:
    return np.take_along_axis(x, argsort(x, axis, descending), axis)


def topk(x: np.ndarray, k: int, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(
            f"Invalid value for `k`. Expected 0 to {x.shape[axis]}, the length of axis {axis}. "
            f"Received {k}."
        )
    indices = np.take(argsort(x, axis, True), np.arange(k), axis=axis)
    return np.take_along_axis(x, indices, axis), indices


def take(x: np.ndarray, indices: np.ndarray, axis: int = 0) -> np.ndarray:
    return np.take(x, _integers(indices), axis=axis)


def _integers(indices: np.ndarray) -> np.ndarray:
    return np.asarray(indices).astype(np.int64)


def gather(x: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    indices = _checked(indices, x.shape[axis])
    return np.take_along_axis(x, indices, axis)


def _checked(indices: np.ndarray, count: int) -> np.ndarray:
    indices = _integers(indices)
    if indices.size and not 0 <= indices.min() <= indices.max() < count:
        raise IndexError(
            f"Invalid value for `indices`. Expected 0 to {count - 1}. "
            f"Received {indices.min()} to {indices.max()}."
        )
    return indices


def scatter_add(
    x: np.ndarray, indices: np.ndarray, source: np.ndarray, axis: int = 0
) -> np.ndarray:
    result = np.array(x)
    indices = _checked(indices, x.shape[axis])
    if indices.ndim == 1 and source.ndim > 1:
        np.add.at(np.moveaxis(result, axis, 0), indices, np.moveaxis(source, axis, 0))
        return result
    where = list(np.indices(source.shape))
    where[axis] = indices
    np.add.at(result, tuple(where), source)
    return result


def index_put(x: np.ndarray, indices: np.ndarray, source: np.ndarray | float) -> np.ndarray:
    result = np.array(x)
    result[_integers(indices)] = source
    return result


def nonzero(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask)


def masked_select(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return x[mask]


def one_hot(labels: np.ndarray, depth: int) -> np.ndarray:
    return (labels[..., None] == np.arange(depth)).astype(np.float32)


def unique(x: np.ndarray) -> np.ndarray:
    return np.unique(x)
