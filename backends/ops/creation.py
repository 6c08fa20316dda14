"""Creation, casts and detaching of tensors; dtype, shape and values of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor, creator
from unidet.backends.registry import backend_of

__all__ = [
    "asarray", "zeros", "ones", "full", "arange", "to_numpy", "cast", "dtype", "shape", "detach",
    "item",
]  # fmt: skip


def asarray(
    x: Any, dtype: str | None = None, *, like: Tensor | None = None, backend: str | None = None
) -> Tensor:
    """A native tensor with the values of ``x``, never sharing memory with a NumPy array.

    Args:
        x: number, nested sequence, NumPy array or tensor of any backend.
        dtype: by default that of ``x``; Python numbers become float32, int64 or bool.
        like: tensor whose backend and device are copied (not its dtype).
        backend: name of a backend; without it and ``like``, a tensor keeps its backend and
            anything else takes the ambient one.

    Raises:
        ValueError: ``like`` and ``backend`` are both given, or no backend can be told.
    """
    if like is None and backend is None and _is_framework_tensor(x):
        like = x
    return creator(like, backend).asarray(x, dtype, like)


def _is_framework_tensor(x: Any) -> bool:
    if isinstance(x, (np.ndarray, np.generic, list, tuple, int, float)):
        return False
    try:
        return backend_of(x) != "numpy"
    except TypeError:
        return False


def zeros(
    shape: Sequence[int],
    dtype: str = "float32",
    *,
    like: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Zeros of ``shape``."""
    return creator(like, backend).full(shape, 0, dtype, like)


def ones(
    shape: Sequence[int],
    dtype: str = "float32",
    *,
    like: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Ones of ``shape``."""
    return creator(like, backend).full(shape, 1, dtype, like)


def full(
    shape: Sequence[int],
    value: float,
    dtype: str = "float32",
    *,
    like: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """``value`` everywhere in ``shape``."""
    return creator(like, backend).full(shape, value, dtype, like)


def arange(
    stop: int, dtype: str = "int64", *, like: Tensor | None = None, backend: str | None = None
) -> Tensor:
    """``0, 1, ..., stop - 1``."""
    return creator(like, backend).arange(stop, dtype, like)


def to_numpy(x: Tensor) -> np.ndarray:
    """The values on the host, in a fresh array of the same dtype (bfloat16 becomes float32).

    A full reduction has shape ``()`` on torch and ``(1,)`` on Jittor.
    """
    return IMPLEMENTATION[type(x)].to_numpy(x)


def cast(x: Tensor, dtype: str) -> Tensor:
    """``x`` as ``dtype``: floats are truncated to integers, anything but 0 is True."""
    return IMPLEMENTATION[type(x)].cast(x, dtype)


def dtype(x: Tensor) -> str:
    """Name of the dtype: "float32", "int64", "bool", ..."""
    return IMPLEMENTATION[type(x)].dtype(x)


def shape(x: Tensor) -> tuple[int, ...]:
    """The shape as a tuple. Jittor has no 0-d tensors: scalars are ``(1,)`` there."""
    return IMPLEMENTATION[type(x)].shape(x)


def detach(x: Tensor) -> Tensor:
    """``x`` as a constant: no gradient flows back through the result."""
    return IMPLEMENTATION[type(x)].detach(x)


def item(x: Tensor) -> Any:
    """The Python number in a tensor of one element. Waits for the device.

    Raises:
        ValueError: ``x`` has another number of elements.
    """
    return IMPLEMENTATION[type(x)].item(x)
