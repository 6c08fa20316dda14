"""Inert objects that take the place of foreign classes while a pickle is read.

A pickle can call what it names and can set attributes on what it makes. So every name resolves to
a fresh object of a class below that belongs to one load alone, computes nothing but arrays, and
refuses state. Nothing of NumPy, PyTorch or Jittor is reachable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from unidet.files.shown import shown

from ..errors import CheckpointError
from .info import EXPANSION_LIMIT

#: Names of torch storages (without "Storage") and the NumPy dtype of their bytes.
STORAGE_DTYPES = {
    "Half": "<f2",
    "BFloat16": "bfloat16",
    "Float": "<f4",
    "Double": "<f8",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "<i1",
    "Byte": "|u1",
    "Bool": "|b1",
    "ComplexFloat": "<c8",
    "ComplexDouble": "<c16",
    "Untyped": "|u1",
}

#: torch dtypes that have no storage class of their own.
PLAIN_DTYPES = {"uint16": "<u2", "uint32": "<u4", "uint64": "<u8"}


#: More than any tensor has values.
_LONGEST = 1 << 48


class Inert:
    """Refuses the state that a pickle would set on it."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise CheckpointError("the pickle sets state on an object that has none")


class Allowed(Inert):
    """A function that a pickle may call."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class Marker(Inert):
    """A name that a pickle may mention and that does nothing, such as ``torch.float32``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class StorageType(Inert):
    """A torch storage class."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class StateDict(dict):  # type: ignore[type-arg]
    """``collections.OrderedDict``; the module versions that torch attaches are left out."""

    def __setstate__(self, state: object) -> None:
        return


def itemsize(dtype: str) -> int:
    """Bytes of one value of a storage dtype."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


class Storage(Inert):
    """A run of values in the file.

    Args:
        dtype: A value of :data:`STORAGE_DTYPES`.
        numel: Number of values.
        load: Returns the bytes as a one-dimensional uint8 array; called once.
        swap: The file's byte order is not little-endian.
    """

    __slots__ = ("_load", "_values", "dtype", "numel", "swap")

    def __init__(
        self, dtype: str, numel: int, load: Callable[[], np.ndarray], swap: bool = False
    ) -> None:
        self.dtype, self.numel, self.swap = dtype, numel, swap
        self._load = load
        self._values: dict[str, np.ndarray] = {}

    def values(self, dtype: str | None = None) -> np.ndarray:
        """``(numel,)`` values; bfloat16 widened to float32, which is exact."""
        dtype = dtype or self.dtype
        if dtype not in self._values:
            raw = self._load()
            if dtype == "bfloat16":
                half = raw.view(">u2" if self.swap else "<u2")
                found = (half.astype(np.uint32) << 16).view(np.float32)
            else:
                raw = raw[: raw.size - raw.size % itemsize(dtype)]
                found = raw.view(np.dtype(dtype).newbyteorder(">" if self.swap else "="))
                found = found.astype(found.dtype.newbyteorder("="), copy=False)
            self._values[dtype] = found
        return self._values[dtype]


class StorageView(Inert):
    """A part of a storage, as old torch files name it."""

    __slots__ = ("offset", "storage")

    def __init__(self, storage: Storage, offset: int) -> None:
        self.storage, self.offset = storage, offset


class TensorRef(Inert):
    """A strided tensor over a storage; :meth:`array` reads it."""

    __slots__ = ("dtype", "offset", "shape", "storage", "stride")

    def __init__(
        self, storage: object, offset: object, shape: object, stride: object, dtype: str = ""
    ) -> None:
        if isinstance(storage, StorageView):
            offset = storage.offset + offset if isinstance(offset, int) else offset
            storage = storage.storage
        if not isinstance(storage, Storage):
            raise CheckpointError("a tensor refers to no storage")
        self.storage = storage
        self.dtype = dtype or storage.dtype
        self.offset = _whole("offset", offset)
        self.shape = _wholes("shape", shape)
        self.stride = _wholes("stride", stride)
        self._check()

    def _check(self) -> None:
        if len(self.shape) != len(self.stride):
            raise CheckpointError(f"a tensor has shape {self.shape} and strides {self.stride}")
        numel = math.prod(self.shape)
        available = self.storage.numel * itemsize(self.storage.dtype) // itemsize(self.dtype)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if numel and last >= available:
            raise CheckpointError(
                f"a tensor of shape {self.shape} reaches value {last} of a storage with {available}"
            )
        if numel > max(available, EXPANSION_LIMIT):
            raise CheckpointError(
                f"a tensor of shape {self.shape} repeats a storage of {available} values"
            )
        # An empty tensor may still have sides that no array can have.
        if math.prod(filter(None, self.shape)) >= _LONGEST:
            raise CheckpointError(f"a tensor has the shape {shown(self.shape, 60)}")

    @property
    def nbytes(self) -> int:
        """Bytes of :meth:`array`."""
        return math.prod(self.shape) * (4 if self.dtype == "bfloat16" else itemsize(self.dtype))

    def array(self) -> np.ndarray:
        """The tensor as an array of its own."""
        if 0 in self.shape:
            dtype = "<f4" if self.dtype == "bfloat16" else self.dtype
            return np.empty(self.shape, np.dtype(dtype))
        values = self.storage.values(self.dtype)[self.offset :]
        # A side of 1 has no use for its stride, which may be anything.
        strides = tuple(
            step * values.itemsize if side > 1 else 0 for side, step in zip(self.shape, self.stride)
        )
        view = np.lib.stride_tricks.as_strided(values, self.shape, strides)
        return view.copy(order="C")


def _whole(what: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LONGEST:
        raise CheckpointError(f"a tensor has the {what} {shown(value, 60)}")
    return value


def _wholes(what: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > 32:
        raise CheckpointError(f"a tensor has the {what} {shown(value, 60)}")
    return tuple(_whole(what, item) for item in value)
