"""Reductions on ``torch.Tensor``. Signatures and meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Axis = int | Sequence[int] | None


def _axes(x: Tensor, axis: Axis) -> int | tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return axis if isinstance(axis, int) else tuple(axis)


def _not_empty(x: Tensor, axis: Axis) -> None:
    if x.numel():
        return
    axes = _axes(x, axis)
    if 0 in [x.shape[a] for a in ((axes,) if isinstance(axes, int) else axes)]:
        raise ValueError(
            f"Invalid value for `x`. Expected elements along axis {axis}. Received shape "
            f"{tuple(x.shape)}."
        )


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    if axis is None and not keepdims:
        return torch.sum(x)
    return torch.sum(x, _axes(x, axis), keepdims)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    if not x.is_floating_point():
        raise TypeError(f"Invalid value for `x`. Expected a floating tensor. Received {x.dtype}.")
    if axis is None and not keepdims:
        return torch.mean(x)
    return torch.mean(x, _axes(x, axis), keepdims)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    _not_empty(x, axis)
    return torch.amax(x, _axes(x, axis), keepdims)


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    _not_empty(x, axis)
    return torch.amin(x, _axes(x, axis), keepdims)


def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return torch.any(x, _axes(x, axis), keepdims)


def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return torch.all(x, _axes(x, axis), keepdims)


def var(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    return torch.var(x, _axes(x, axis), correction=correction, keepdim=keepdims)


def argmax(x: Tensor, axis: int) -> Tensor:
    _not_empty(x, axis)
    return torch.argmax(x, axis)


def argmin(x: Tensor, axis: int) -> Tensor:
    _not_empty(x, axis)
    return torch.argmin(x, axis)


def cumsum(x: Tensor, axis: int) -> Tensor:
    return torch.cumsum(x, axis)


def logsumexp(x: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    return torch.logsumexp(x, axis, keepdims)


def softmax(x: Tensor, axis: int) -> Tensor:
    return torch.softmax(x, axis)


def log_softmax(x: Tensor, axis: int) -> Tensor:
    return torch.log_softmax(x, axis)
