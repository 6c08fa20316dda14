"""Operations on ``torch.Tensor``, one to one on native functions wherever they exist.

Signatures and meaning: :mod:`unidet.backends.ops`.
"""

# Operations are looked up on this module by name.
# ruff: noqa: F403

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unidet.backends import registry
from unidet.backends.torch.ops_indexing import *
from unidet.backends.torch.ops_network import *
from unidet.backends.torch.ops_reductions import *
from unidet.backends.torch.roi_align import *

_DTYPES = {
    name: getattr(torch, name)
    for name in (
        "float16", "bfloat16", "float32", "float64",
        "bool", "uint8", "int8", "int16", "int32", "int64",
    )
}  # fmt: skip
_NAMES = {native: name for name, native in _DTYPES.items()}


def _native_dtype(name: str) -> torch.dtype:
    try:
        return _DTYPES[name]
    except KeyError:
        raise ValueError(
            f"Invalid value for `dtype`. Expected one of {', '.join(_DTYPES)}. Received {name!r}."
        ) from None


# --- creation and conversion ---


def asarray(x: Any, dtype: str | None = None, like: Tensor | None = None) -> Tensor:
    kind = None if dtype is None else _native_dtype(dtype)
    device = None if like is None else like.device
    if isinstance(x, Tensor):
        return x.to(device=device, dtype=kind)
    if not isinstance(x, (np.ndarray, np.generic)):
        x = _host_values(x)
    # torch.tensor copies, but cannot read negative strides.
    return torch.tensor(np.ascontiguousarray(x).reshape(np.shape(x)), dtype=kind, device=device)


def _host_values(x: Any) -> np.ndarray:
    """Python numbers as float32, int64 or bool; tensors of another backend as they are."""
    if not isinstance(x, (int, float, list, tuple)):
        return registry.implementation(registry.backend_of(x)).to_numpy(x)
    array = np.asarray(x)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def full(shape: Sequence[int], value: float, dtype: str, like: Tensor | None = None) -> Tensor:
    device = None if like is None else like.device
    return torch.full(tuple(shape), value, dtype=_native_dtype(dtype), device=device)


def arange(stop: int, dtype: str, like: Tensor | None = None) -> Tensor:
    device = None if like is None else like.device
    return torch.arange(stop, dtype=_native_dtype(dtype), device=device)


def to_numpy(x: Tensor) -> np.ndarray:
    x = x.detach()
    if x.dtype is torch.bfloat16:
        x = x.float()
    return x.cpu().numpy() if x.is_cuda else x.cpu().numpy().copy()


def cast(x: Tensor, dtype: str) -> Tensor:
    return x.to(_native_dtype(dtype))


def dtype(x: Tensor) -> str:
    return _NAMES[x.dtype]


def shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)


def detach(x: Tensor) -> Tensor:
    return x.detach()


def item(x: Tensor) -> Any:
    if x.numel() != 1:
        raise ValueError(
            f"Invalid value for `x`. Expected one element. Received shape {tuple(x.shape)}."
        )
    return x.item()


# --- elementwise ---

exp = torch.exp
log = torch.log
log1p = torch.log1p
sqrt = torch.sqrt
square = torch.square
abs = torch.abs
sign = torch.sign
floor = torch.floor
ceil = torch.ceil
round = torch.round
sigmoid = torch.sigmoid
log_sigmoid = F.logsigmoid
tanh = torch.tanh
arctan = torch.arctan
relu = torch.relu
floor_divide = torch.floor_divide
remainder = torch.remainder
where = torch.where
isnan = torch.isnan
isinf = torch.isinf
isfinite = torch.isfinite
logical_not = torch.logical_not
logical_and = torch.logical_and
logical_or = torch.logical_or


def softplus(x: Tensor) -> Tensor:
    # Above the threshold torch returns x itself, which must then be exact in float64 too.
    return F.softplus(x, threshold=40.0)


def maximum(x: Tensor, y: Tensor | float) -> Tensor:
    return torch.maximum(x, y if isinstance(y, Tensor) else torch.full_like(x, y))


def minimum(x: Tensor, y: Tensor | float) -> Tensor:
    return torch.minimum(x, y if isinstance(y, Tensor) else torch.full_like(x, y))


def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    if low is None and high is None:
        return x
    if not (x.requires_grad and torch.is_grad_enabled()):
        return torch.clamp(x, low, high)
    # From 2.14 on, torch's own has gradient 0 at the bounds.
    if low is not None:
        x = torch.where(x < low, low, x)
    return x if high is None else torch.where(x > high, high, x)


# --- shape ---


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(tuple(shape))


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    return x.permute(tuple(axes))


def expand_dims(x: Tensor, axis: int) -> Tensor:
    return x.unsqueeze(axis)


def squeeze(x: Tensor, axis: int) -> Tensor:
    if x.shape[axis] != 1:
        raise ValueError(
            f"Invalid value for `axis`. Expected an axis of length 1. Received axis {axis} of "
            f"shape {tuple(x.shape)}."
        )
    return x.squeeze(axis)


def concat(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    return torch.cat(tuple(xs), axis)


def stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    return torch.stack(tuple(xs), axis)


def split(x: Tensor, sizes: Sequence[int], axis: int = 0) -> list[Tensor]:
    pieces = [int(size) for size in sizes]
    total = x.shape[axis]
    for size in pieces:
        total -= size
    if total:
        raise ValueError(
            f"Invalid value for `sizes`. Expected lengths that add up to {x.shape[axis]}. "
            f"Received {tuple(pieces)}."
        )
    return list(torch.split(x, pieces, axis))


def flip(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    return torch.flip(x, (axis,) if isinstance(axis, int) else tuple(axis))


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0) -> Tensor:
    # torch counts from the last axis.
    flat = [int(width) for pair in reversed(list(widths)) for width in pair]
    return F.pad(x, flat, value=value)


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(tuple(shape))


def tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    return x.repeat(tuple(repeats))


# --- gradients ---


def grad(fn: Callable[..., Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    with torch.enable_grad():
        leaves = [x if x.requires_grad else x.detach().requires_grad_() for x in inputs]
        value = fn(*leaves)
        if value.numel() != 1:
            raise ValueError(
                "Invalid value for `fn`. Expected a function that returns one element. "
                f"Received shape {tuple(value.shape)}."
            )
        if not value.requires_grad:
            return value, [torch.zeros_like(leaf) for leaf in leaves]
        found = torch.autograd.grad(value.reshape(()), leaves, allow_unused=True)
    return value.detach(), [
        torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found)
    ]


def no_grad() -> Any:
    return torch.no_grad()


def sync(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
