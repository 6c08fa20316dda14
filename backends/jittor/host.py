"""Moving values between NumPy and Jittor without losing bits, and checking indices on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends.jittor import jt

Var = Any


def dtype_of(x: Var) -> str:
    """Name of the dtype."""
    return str(x.dtype)


def var_of(array: np.ndarray) -> Var:
    """A tensor of the same dtype. ``jt.array`` alone narrows 64 bit, and 2**40 becomes 0."""
    array = np.asarray(array)
    return jt.array(array, dtype=array.dtype.name)


def constant(value: float, x: Var) -> Var:
    """``(1,)`` in the dtype of ``x``, for arithmetic that must not promote."""
    name = dtype_of(x)
    if name == "bfloat16":
        return jt.cast(jt.array(np.array([value], np.float32)), name)
    if name == "int64" and abs(value) < 2**31:
        # A pending int64 scalar was read wrongly by the process that compiled the kernel it had
        # been fused into; 32-bit ones never are.
        return jt.cast(jt.array(np.array([value], np.int32)), name)
    return jt.array(np.array([value], name), dtype=name)


def index_var(indices: Var | np.ndarray, count: int, *, wrap: bool) -> Var:
    """``indices`` as int32, all in ``[0, count)``.

    Jittor reads and writes foreign memory where an index does not exist, and loses the gradient of
    negative ones. They are therefore looked at on the host, which waits for computed indices.

    Args:
        indices: integers.
        count: length of the indexed axis.
        wrap: whether negative ones count from the end.

    Raises:
        TypeError: they are not integers.
        IndexError: one does not exist.
    """
    values = indices.numpy() if isinstance(indices, jt.Var) else np.asarray(indices)
    if values.dtype.kind not in "iu":
        raise TypeError(f"Invalid value for `indices`. Expected integers. Received {values.dtype}.")
    lowest = -count if wrap else 0
    if values.size:
        low, high = int(values.min()), int(values.max())
        if low < lowest or high >= count:
            raise IndexError(
                f"Invalid value for `indices`. Expected {lowest} to {count - 1}. "
                f"Received {low} to {high}."
            )
        if low < 0:
            values = np.where(values < 0, values + count, values)
        elif isinstance(indices, jt.Var):
            return indices.int32()
    return jt.array(np.asarray(values, np.int32), dtype="int32")


def select(condition: Var, x: Var, y: Var) -> Var:
    """``x`` where ``condition``, else ``y``, in their common shape.

    ``jt.ternary`` broadcasts two of its arguments and reads foreign memory where a length is 0.
    """
    shapes = [tuple(v.shape) for v in (condition, x, y)]
    shape = shapes[0] if shapes[0] == shapes[1] == shapes[2] else np.broadcast_shapes(*shapes)
    if 0 in shape:
        return jt.zeros(list(shape), x.dtype)
    parts = (
        part if own in (shape, (1,)) else expand(part, shape)
        for part, own in zip((condition, x, y), shapes)
    )
    return jt.ternary(*parts)


def expand(x: Var, shape: Sequence[int]) -> Var:
    """``x`` repeated along its axes of length 1 and new leading ones."""
    if 0 in shape:
        return jt.zeros(list(shape), x.dtype)
    return x.reshape([1] * (len(shape) - x.ndim) + list(x.shape)).expand(list(shape))
