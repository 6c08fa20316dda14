"""Order and indexing of ``torch.Tensor``. Meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Dtypes whose order fits into the upper half of an int64 key.
_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_SMALL_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32)


def _indices(indices: Tensor | np.ndarray, x: Tensor) -> Tensor:
    """``indices`` on the device of ``x``; int64 unless they are a mask."""
    if isinstance(indices, Tensor):
        return indices
    return torch.as_tensor(np.ascontiguousarray(indices), device=x.device)


def argsort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    return torch.sort(x, dim=axis, descending=descending, stable=True).indices


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    return torch.sort(x, dim=axis, descending=descending, stable=True).values


def topk(x: Tensor, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(
            f"Invalid value for `k`. Expected 0 to {x.shape[axis]}, the length of axis {axis}. "
            f"Received {k}."
        )
    if x.dtype in _NARROW or x.dtype in _SMALL_INTEGERS:
        # Native topk leaves the order of ties open; these keys have none.
        indices = torch.topk(_unique_keys(x.detach(), axis), k, axis).indices
    else:
        indices = argsort(x, axis, True).narrow(axis, 0, k)
    return torch.gather(x, axis, indices), indices


def _unique_keys(x: Tensor, axis: int) -> Tensor:
    """int64 keys in the order of ``x``, then of the falling index; NaN is the largest."""
    if x.dtype in _NARROW:
        # + 0.0 turns -0.0 into 0.0. Bits of negative floats rise as the value falls.
        values = torch.where(torch.isnan(x), torch.full_like(x, float("nan")).abs(), x).float()
        bits = (values + 0.0).view(torch.int32)
        order = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    else:
        order = x
    count = x.shape[axis]
    rank = torch.arange(count - 1, -1, -1, device=x.device)
    rank = rank.reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])
    return (order.long() << 32) + rank


def take(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    where = _indices(indices, x).long()
    return x[(slice(None),) * (axis % x.ndim) + (where,)]


def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    return torch.gather(x, axis, _indices(indices, x).long())


def scatter_add(x: Tensor, indices: Tensor, source: Tensor, axis: int = 0) -> Tensor:
    where = _indices(indices, x).long()
    if where.ndim == 1 and source.ndim > 1:
        return torch.index_add(x, axis, where, source)
    return torch.scatter_add(x, axis, where, source)


def index_put(x: Tensor, indices: Tensor, source: Tensor | float) -> Tensor:
    if not isinstance(source, Tensor):
        source = torch.as_tensor(source, dtype=x.dtype, device=x.device)
    return torch.index_put(x, (_indices(indices, x).long(),), source)


def nonzero(mask: Tensor) -> Tensor:
    return torch.nonzero(mask)


def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    return x[_indices(mask, x)]


def one_hot(labels: Tensor, depth: int) -> Tensor:
    return (labels.unsqueeze(-1) == torch.arange(depth, device=labels.device)).float()


def unique(x: Tensor) -> Tensor:
    return torch.unique(x)
