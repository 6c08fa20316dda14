"""Operations on ``numpy.ndarray``: the judge of the other backends.

Signatures and meaning: :mod:`unidet.backends.ops`. Everything is computed in the dtype of the
arguments, so float64 arguments give a float64 reference.
"""

# Operations are looked up on this module by name.
# ruff: noqa: F403

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unidet.backends import registry
from unidet.backends.numpy.ops_indexing import *
from unidet.backends.numpy.ops_losses import *
from unidet.backends.numpy.ops_network import *
from unidet.backends.numpy.ops_reductions import *
from unidet.backends.numpy.roi_align import *
from unidet.backends.numpy.suppression import *

DTYPES = (
    "float16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64",
)  # fmt: skip


def _dtype(name: str) -> np.dtype:
    if name not in DTYPES:
        raise ValueError(
            f"Invalid value for `dtype`. Expected one of {', '.join(DTYPES)}. Received {name!r}."
        )
    return np.dtype(name)


# --- creation and conversion ---


def asarray(x: Any, dtype: str | None = None, like: np.ndarray | None = None) -> np.ndarray:
    if isinstance(x, (int, float, list, tuple)):
        x = np.asarray(x)
        x = x.astype(np.float32) if x.dtype == np.float64 else x
    elif not isinstance(x, (np.ndarray, np.generic)):
        x = registry.implementation(registry.backend_of(x)).to_numpy(x)
    return np.array(x, dtype=None if dtype is None else _dtype(dtype))


def full(
    shape: Sequence[int], value: float, dtype: str, like: np.ndarray | None = None
) -> np.ndarray:
    return np.full(tuple(shape), value, _dtype(dtype))


def arange(stop: int, dtype: str, like: np.ndarray | None = None) -> np.ndarray:
    return np.arange(stop, dtype=_dtype(dtype))


def to_numpy(x: np.ndarray) -> np.ndarray:
    return np.array(x)


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    return np.asarray(x).astype(_dtype(dtype))


def dtype(x: np.ndarray) -> str:
    return x.dtype.name


def shape(x: np.ndarray) -> tuple[int, ...]:
    return np.shape(x)


def detach(x: np.ndarray) -> np.ndarray:
    return x


def item(x: np.ndarray) -> Any:
    if x.size != 1:
        raise ValueError(f"Invalid value for `x`. Expected one element. Received shape {x.shape}.")
    return x.item()


# --- elementwise ---


def _quiet(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """NumPy warns of NaN and infinity; here they are results like any other."""

    def one(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return function(x)

    return one


exp = _quiet(np.exp)
log = _quiet(np.log)
log1p = _quiet(np.log1p)
sqrt = _quiet(np.sqrt)
square = _quiet(np.square)
abs = np.abs
sign = _quiet(np.sign)
floor = np.floor
ceil = np.ceil
round = np.rint
tanh = np.tanh
arctan = np.arctan
isnan = np.isnan
isinf = np.isinf
isfinite = np.isfinite
logical_not = np.logical_not
logical_and = np.logical_and
logical_or = np.logical_or


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, _same(0, x))


def maximum(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    return np.maximum(x, _same(y, x))


def minimum(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    return np.minimum(x, _same(y, x))


def clip(x: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    x = x if low is None else maximum(x, low)
    return x if high is None else minimum(x, high)


def floor_divide(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    return np.floor_divide(x, _same(y, x))


def remainder(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    return np.remainder(x, _same(y, x))


def where(c: np.ndarray, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    tensor = x if isinstance(x, np.ndarray) else y
    return np.where(c, _same(x, tensor), _same(y, tensor))


def _same(value: np.ndarray | float, x: Any) -> Any:
    """A Python number in the dtype of ``x``, so that it never widens the result."""
    return value if isinstance(value, np.ndarray) else np.asarray(value, getattr(x, "dtype", None))


# --- shape ---


def reshape(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.reshape(x, tuple(shape))


def transpose(x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    return np.transpose(x, tuple(axes))


def expand_dims(x: np.ndarray, axis: int) -> np.ndarray:
    return np.expand_dims(x, axis)


def squeeze(x: np.ndarray, axis: int) -> np.ndarray:
    return np.squeeze(x, axis)


def concat(xs: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    return np.concatenate(list(xs), axis)


def stack(xs: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    return np.stack(list(xs), axis)


def split(x: np.ndarray, sizes: Sequence[int], axis: int = 0) -> list[np.ndarray]:
    if np.sum(sizes) != x.shape[axis]:
        raise ValueError(
            f"Invalid value for `sizes`. Expected lengths that add up to {x.shape[axis]}. "
            f"Received {tuple(sizes)}."
        )
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def flip(x: np.ndarray, axis: int | Sequence[int]) -> np.ndarray:
    return np.flip(x, axis if isinstance(axis, int) else tuple(axis))


def pad(x: np.ndarray, widths: Sequence[tuple[int, int]], value: float = 0) -> np.ndarray:
    return np.pad(x, [tuple(pair) for pair in widths], constant_values=value)


def broadcast_to(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.broadcast_to(x, tuple(shape))


def tile(x: np.ndarray, repeats: Sequence[int]) -> np.ndarray:
    return np.tile(x, tuple(repeats))


# --- gradients ---


def grad(fn: Callable[..., Any], inputs: Sequence[np.ndarray]) -> Any:
    raise TypeError(
        "Invalid value for `inputs`. Expected tensors of torch or jittor: the NumPy reference has "
        "no gradients. Received numpy.ndarray."
    )


def no_grad() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def sync(x: np.ndarray) -> None:
    """Nothing to wait for."""
