"""Order and indexing of ``jittor.Var``. Meaning: :mod:`unidet.backends.ops`.

Jittor's own sorts are not stable and slow, so the order is found by NumPy on the host; the values
are gathered from the tensor, which keeps their gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.host import constant, expand, index_var, var_of

Var = Any


def _order(values: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    if not descending:
        return np.argsort(values, axis=axis, kind="stable")
    backwards = np.argsort(np.flip(values, axis), axis=axis, kind="stable")
    return values.shape[axis] - 1 - np.flip(backwards, axis)


def argsort(x: Var, axis: int = -1, descending: bool = False) -> Var:
    return var_of(_order(x.numpy(), axis, descending).astype(np.int64))


def sort(x: Var, axis: int = -1, descending: bool = False) -> Var:
    return _along(x, _order(x.numpy(), axis, descending), axis)


def topk(x: Var, k: int, axis: int = -1) -> tuple[Var, Var]:
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(
            f"Invalid value for `k`. Expected 0 to {x.shape[axis]}, the length of axis {axis}. "
            f"Received {k}."
        )
    values = np.moveaxis(x.numpy(), axis, -1)
    indices = np.moveaxis(_largest(values, k), -1, axis).astype(np.int64)
    return _along(x, indices, axis), var_of(indices)


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Indices of the ``k`` largest along the last axis, falling, lower index first at ties."""
    count = values.shape[-1]
    if k == 0 or values.size == 0:
        return np.zeros((*values.shape[:-1], k), np.int64)
    if values.dtype != np.float32 or count < 4 * k:
        return _order(values, -1, True)[..., :k]
    # The order of a float is that of its bits. With the index below them no two keys are equal, so
    # that a partition of unknown order may choose. 0.0 - x also makes -0.0 and 0.0 the same.
    falling = np.where(np.isnan(values), np.float32("-inf"), np.float32(0) - values)
    bits = falling.view(np.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    keys[np.isnan(values)] -= 1
    keys = (keys << 32) + np.arange(count)
    chosen = np.partition(keys, k - 1, axis=-1)[..., :k]
    chosen.sort(axis=-1)
    return chosen & 0xFFFFFFFF


def _along(x: Var, indices: np.ndarray, axis: int) -> Var:
    """Elements at ``indices`` along ``axis``, which are known to exist."""
    if indices.size == 0:
        return jt.zeros(list(indices.shape), x.dtype)
    return jt.gather(x, axis % x.ndim, jt.array(indices.astype(np.int32)))


def take(x: Var, indices: Var | np.ndarray, axis: int = 0) -> Var:
    axis = axis % x.ndim
    where = index_var(indices, x.shape[axis], wrap=True)
    return x[(slice(None),) * axis + (where,)]


def gather(x: Var, indices: Var | np.ndarray, axis: int) -> Var:
    axis = axis % x.ndim
    where = index_var(indices, x.shape[axis], wrap=False)
    return jt.gather(x, axis, where)


def scatter_add(x: Var, indices: Var | np.ndarray, source: Var, axis: int = 0) -> Var:
    axis = axis % x.ndim
    where = index_var(indices, x.shape[axis], wrap=False)
    if where.numel() == 0:
        return x
    # Jittor may write into the memory of its argument: hence the copy.
    if where.ndim == 1 and source.ndim > 1:
        return x.copy().setitem((slice(None),) * axis + (where,), source, "add")
    return jt.scatter(x.copy(), axis, where, source, reduce="add")


def index_put(x: Var, indices: Var | np.ndarray, source: Var | float) -> Var:
    where = index_var(indices, x.shape[0], wrap=True)
    if where.numel() == 0:
        return x
    if not isinstance(source, jt.Var):
        source = constant(source, x)
    rows = [where.shape[0], *x.shape[1:]]
    if list(source.shape) != rows:
        source = expand(source, rows)
    return x.copy().setitem((where,), source)


def nonzero(mask: Var) -> Var:
    return var_of(np.argwhere(mask.numpy()).astype(np.int64))


def masked_select(x: Var, mask: Var | np.ndarray) -> Var:
    flags = mask.numpy() if isinstance(mask, jt.Var) else np.asarray(mask)
    if flags.dtype != bool or flags.shape != tuple(x.shape[: flags.ndim]):
        raise ValueError(
            f"Invalid value for `mask`. Expected bool of shape {tuple(x.shape[: flags.ndim])}. "
            f"Received {flags.dtype} of shape {flags.shape}."
        )
    rows = x.reshape([flags.size, *x.shape[flags.ndim :]])
    return rows[jt.array(np.flatnonzero(flags).astype(np.int32))]


def one_hot(labels: Var, depth: int) -> Var:
    slots = jt.array(np.arange(depth, dtype=np.int64), dtype="int64")
    return (labels.int64().unsqueeze(-1) == slots).float32()


def unique(x: Var) -> Var:
    return var_of(np.unique(x.numpy()))
