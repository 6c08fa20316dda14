"""Operations on ``jittor.Var`` with torch's semantics.

Signatures and meaning: :mod:`unidet.backends.ops`. What Jittor does otherwise is put right here and
in the modules beside this one; ``tests/ops/test_traps.py`` holds each correction. Two differences
remain: there are no 0-d tensors (a scalar is ``(1,)``), and ``sigmoid`` stops falling at 1e-13.
"""

# Operations are looked up on this module by name.
# ruff: noqa: F403

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unidet.backends import registry
from unidet.backends.jittor import batch_norm as _batch_norm
from unidet.backends.jittor import jt
from unidet.backends.jittor.host import constant, dtype_of, expand, select, var_of
from unidet.backends.jittor.ops_indexing import *
from unidet.backends.jittor.ops_losses import *
from unidet.backends.jittor.ops_network import *
from unidet.backends.jittor.ops_reductions import *
from unidet.backends.jittor.roi_align import *

Var = Any

DTYPES = (
    "float16", "bfloat16", "float32", "float64",
    "bool", "uint8", "int8", "int16", "int32", "int64",
)  # fmt: skip


def _checked_dtype(name: str) -> str:
    if name not in DTYPES:
        raise ValueError(
            f"Invalid value for `dtype`. Expected one of {', '.join(DTYPES)}. Received {name!r}."
        )
    return name


# --- creation and conversion ---


def asarray(x: Any, dtype: str | None = None, like: Var | None = None) -> Var:
    # The device is the process's, so `like` has nothing to say.
    kind = None if dtype is None else _checked_dtype(dtype)
    if isinstance(x, jt.Var):
        return x if kind in (None, dtype_of(x)) else cast(x, kind)
    if isinstance(x, (int, float, list, tuple)):
        x = np.asarray(x)
        x = x.astype(np.float32) if x.dtype == np.float64 else x
    elif not isinstance(x, (np.ndarray, np.generic)):
        x = registry.implementation(registry.backend_of(x)).to_numpy(x)
    if kind == "bfloat16":
        return cast(var_of(x.astype(np.float32)), kind)
    return var_of(x if kind is None else x.astype(kind))


def full(shape: Sequence[int], value: float, dtype: str, like: Var | None = None) -> Var:
    return asarray(np.full(tuple(shape), value), _checked_dtype(dtype))


def arange(stop: int, dtype: str, like: Var | None = None) -> Var:
    return asarray(np.arange(stop), _checked_dtype(dtype))


def to_numpy(x: Var) -> np.ndarray:
    if dtype_of(x) == "bfloat16":
        x = x.float32()
    # The array that Jittor hands out is the tensor's own memory.
    return x.numpy().copy()


def cast(x: Var, dtype: str) -> Var:
    return jt.cast(x, _checked_dtype(dtype))


def dtype(x: Var) -> str:
    return dtype_of(x)


def shape(x: Var) -> tuple[int, ...]:
    return tuple(x.shape)


def detach(x: Var) -> Var:
    return x.detach()


def item(x: Var) -> Any:
    if x.numel() != 1:
        raise ValueError(
            f"Invalid value for `x`. Expected one element. Received shape {tuple(x.shape)}."
        )
    return x.item()


# --- elementwise ---

exp = jt.exp
log = jt.log
sqrt = jt.sqrt
sigmoid = jt.sigmoid
tanh = jt.tanh
arctan = jt.arctan
logical_not = jt.logical_not
logical_and = jt.logical_and
logical_or = jt.logical_or


def log1p(x: Var) -> Var:
    # log(1 + x) = 2 artanh(x / (2 + x)): its series near 0, where 1 + x would lose digits.
    near = jt.abs(x) < 0.3
    small = select(near, x, constant(0, x))
    s = small / (2 + small)
    z = s * s
    series = 2 * s * (1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z / 9))))
    return select(near, series, jt.log(1 + x))


def square(x: Var) -> Var:
    return x * x


def abs(x: Var) -> Var:
    # Jittor's own has gradient 1 at 0.
    return x * sign(x) if x.dtype.is_float() else jt.abs(x)


def sign(x: Var) -> Var:
    one = constant(1, x)
    negative = select(x < 0, constant(-1, x), constant(0, x))
    return select(x > 0, one, negative).detach()


def floor(x: Var) -> Var:
    return jt.floor(x).detach()


def ceil(x: Var) -> Var:
    return jt.ceil(x).detach()


def round(x: Var) -> Var:
    # Jittor's own rounds halves away from 0.
    low = jt.floor(x)
    even = 2 * jt.floor((low + 1) * 0.5)
    return select(x - low == 0.5, even, jt.round(x)).detach()


def relu(x: Var) -> Var:
    if hasattr(x, _batch_norm.RECIPE):
        return _batch_norm.relu(x)
    # Jittor's own turns NaN into 0.
    return select(x <= 0, constant(0, x), x)


def maximum(x: Var, y: Var | float) -> Var:
    y = y if isinstance(y, jt.Var) else constant(y, x)
    return _choose(x > y, x < y, x, y)


def minimum(x: Var, y: Var | float) -> Var:
    y = y if isinstance(y, jt.Var) else constant(y, x)
    return _choose(x < y, x > y, x, y)


def _choose(first: Var, second: Var, x: Var, y: Var) -> Var:
    """x, y or at ties their mean, so that each gets half the gradient; NaN is a tie."""
    if not x.dtype.is_float():
        return select(first, x, y)
    return select(first, x, select(second, y, (x + y) * 0.5))


def clip(x: Var, low: float | None = None, high: float | None = None) -> Var:
    # Jittor's own has gradient 0 at the bounds and loses NaN.
    if low is not None:
        low = constant(low, x)
        x = select(x < low, low, x)
    if high is not None:
        high = constant(high, x)
        x = select(x > high, high, x)
    return x


def floor_divide(x: Var, y: Var | float) -> Var:
    y = y if isinstance(y, jt.Var) else constant(y, x)
    if not x.dtype.is_float():
        # Truncated towards 0; one less where something is left over and the signs differ.
        quotient = x // y
        uneven = (x - quotient * y != 0) & ((x < 0) != (y < 0))
        return jt.cast(quotient - jt.cast(uneven, dtype_of(x)), dtype_of(x))
    x, y = x.detach(), y.detach()
    quotient = jt.floor(x / y)
    # The compiler may multiply by 1 / y, which can miss an exact multiple by one.
    rest = x - quotient * y
    over = select(y > 0, rest >= y, rest <= y)
    under = select(y > 0, rest < 0, rest > 0)
    kind = dtype_of(x)
    return quotient + jt.cast(over, kind) - jt.cast(under, kind)


def remainder(x: Var, y: Var | float) -> Var:
    y = y if isinstance(y, jt.Var) else constant(y, x)
    return x - floor_divide(x, y) * y


def where(c: Var, x: Var | float, y: Var | float) -> Var:
    tensor = x if isinstance(x, jt.Var) else y
    x = x if isinstance(x, jt.Var) else constant(x, tensor)
    y = y if isinstance(y, jt.Var) else constant(y, tensor)
    return select(c, x, y)


def isnan(x: Var) -> Var:
    return jt.isnan(x) if x.dtype.is_float() else _nowhere(x)


def isinf(x: Var) -> Var:
    return jt.isinf(x) if x.dtype.is_float() else _nowhere(x)


def isfinite(x: Var) -> Var:
    return jt.isfinite(x) if x.dtype.is_float() else jt.logical_not(_nowhere(x))


def _nowhere(x: Var) -> Var:
    return asarray(np.zeros(tuple(x.shape), bool))


# --- shape ---


def reshape(x: Var, shape: Sequence[int]) -> Var:
    sizes = [int(size) for size in shape]
    if -1 in sizes:
        known = int(np.prod([size for size in sizes if size != -1], dtype=np.int64))
        if known == 0 or x.numel() % known or sizes.count(-1) > 1:
            _raise_shape(x, sizes)
        sizes[sizes.index(-1)] = x.numel() // known
    elif int(np.prod(sizes, dtype=np.int64)) != x.numel():
        _raise_shape(x, sizes)
    return x.reshape(sizes or [1])


def _raise_shape(x: Var, sizes: list[int]) -> None:
    raise ValueError(
        f"Invalid value for `shape`. Expected a shape of {x.numel()} elements. "
        f"Received {tuple(sizes)} for {tuple(x.shape)}."
    )


def transpose(x: Var, axes: Sequence[int]) -> Var:
    return jt.transpose(x, [int(axis) % x.ndim for axis in axes])


def expand_dims(x: Var, axis: int) -> Var:
    sizes = list(x.shape)
    sizes.insert(axis % (x.ndim + 1), 1)
    return x.reshape(sizes)


def squeeze(x: Var, axis: int) -> Var:
    sizes = list(x.shape)
    if sizes.pop(axis) != 1:
        raise ValueError(
            f"Invalid value for `axis`. Expected an axis of length 1. Received axis {axis} of "
            f"shape {tuple(x.shape)}."
        )
    return x.reshape(sizes or [1])


def concat(xs: Sequence[Var], axis: int = 0) -> Var:
    return jt.concat(list(xs), axis)


def stack(xs: Sequence[Var], axis: int = 0) -> Var:
    return jt.stack(list(xs), axis)


def split(x: Var, sizes: Sequence[int], axis: int = 0) -> list[Var]:
    stops = np.cumsum([int(size) for size in sizes]).tolist()
    if (stops[-1] if stops else 0) != x.shape[axis]:
        raise ValueError(
            f"Invalid value for `sizes`. Expected lengths that add up to {x.shape[axis]}. "
            f"Received {tuple(sizes)}."
        )
    before = (slice(None),) * (axis % x.ndim)
    return [x[(*before, slice(a, b))] for a, b in zip([0, *stops], stops)]


def flip(x: Var, axis: int | Sequence[int]) -> Var:
    axes = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
    return x[tuple(slice(None, None, -1 if a in axes else None) for a in range(x.ndim))]


def pad(x: Var, widths: Sequence[tuple[int, int]], value: float = 0) -> Var:
    sizes = [before + size + after for size, (before, after) in zip(x.shape, widths)]
    result = constant(value, x).broadcast(sizes).copy()
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, widths))
    result[inside] = x
    return result


def broadcast_to(x: Var, shape: Sequence[int]) -> Var:
    sizes = tuple(int(size) for size in shape)
    return x if sizes == tuple(x.shape) else expand(x, sizes)


def tile(x: Var, repeats: Sequence[int]) -> Var:
    return x.repeat(*[int(count) for count in repeats])


# --- gradients ---


def grad(fn: Callable[..., Var], inputs: Sequence[Var]) -> tuple[Var, list[Var]]:
    with jt.enable_grad():
        leaves = [x.detach().start_grad() if x.is_stop_grad() else x for x in inputs]
        for leaf in leaves:
            if not leaf.dtype.is_float():
                raise TypeError(
                    f"Invalid value for `inputs`. Expected floating tensors. Received {leaf.dtype}."
                )
        value = fn(*leaves)
        if value.numel() != 1:
            raise ValueError(
                "Invalid value for `fn`. Expected a function that returns one element. "
                f"Received shape {tuple(value.shape)}."
            )
        gradients = jt.grad(value, leaves)
    return value.detach(), gradients


def no_grad() -> Any:
    return jt.no_grad()


def sync(x: Var) -> None:
    x.sync(True)
