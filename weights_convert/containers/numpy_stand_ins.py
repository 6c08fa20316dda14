"""Arrays, dtypes and scalars of NumPy pickles, rebuilt without NumPy's own unpickling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unidet.files.shown import shown

from ..errors import CheckpointError
from .stand_ins import Inert

_KINDS = "biufcSU"
#: More than any array has values or bytes.
_LONGEST = 1 << 48


class DType(Inert):
    """``numpy.dtype(code, align, copy)`` followed by its state."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        if isinstance(code, bytes):
            code = code.decode("latin1")
        if not isinstance(code, str) or len(code) < 2 or code[0] not in _KINDS:
            raise CheckpointError(f"an array has the unsupported dtype {shown(code, 40)}")
        if not (code[1:].isascii() and code[1:].isdigit()) or len(code) > 6:
            raise CheckpointError(f"an array has the unsupported dtype {shown(code, 40)}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: object) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags)
        if not isinstance(state, tuple) or len(state) < 5:
            raise CheckpointError("an array has a damaged dtype")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        known = isinstance(order, str) and order in ("<", ">", "|", "=")
        if not known or any(part is not None for part in state[2:5]):
            raise CheckpointError("an array has a structured dtype")
        self.order = order

    def resolve(self) -> np.dtype[Any]:
        """The dtype."""
        try:
            return np.dtype(self.order + self.code if self.order != "=" else self.code)
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"an array has the unsupported dtype {self.code!r}") from error


class Array(Inert):
    """``numpy.ndarray``; built when it is asked for, so that a copy costs nothing until then."""

    __slots__ = ("_pieces",)

    def __init__(self, *pieces: object) -> None:
        self._pieces = pieces

    def __setstate__(self, state: object) -> None:
        # ([version,] shape, dtype, is Fortran order, data)
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise CheckpointError("an array has a damaged state")
        shape, dtype, fortran, data = state[-4:]
        self._pieces = (data, dtype, shape, "F" if fortran else "C")

    @property
    def nbytes(self) -> int:
        """Length of the data."""
        data = self._pieces[0] if self._pieces else b""
        return len(data) if isinstance(data, (bytes, bytearray, str)) else 0

    def array(self) -> np.ndarray:
        """The array, C-contiguous, in the machine's byte order."""
        if not self._pieces:
            raise CheckpointError("an array has no content")
        return build_array(*self._pieces)


class Scalar(Inert):
    """A NumPy scalar."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def build_array(data: object, dtype: object, shape: object, order: object = "C") -> np.ndarray:
    """An array from raw bytes.

    Raises:
        CheckpointError: the pieces do not fit each other.
    """
    if not isinstance(dtype, DType):
        raise CheckpointError("an array has no dtype")
    kind = dtype.resolve()
    if isinstance(data, str):  # pickles of Python 2 hold bytes as text
        try:
            data = data.encode("latin1")
        except UnicodeEncodeError as error:
            raise CheckpointError("an array holds text instead of bytes") from error
    if isinstance(shape, int):
        shape = (shape,)
    sides = shape if isinstance(shape, tuple) and len(shape) <= 32 else (-1,)
    if any(not isinstance(side, int) or not 0 <= side < _LONGEST for side in sides):
        raise CheckpointError(f"an array has the shape {shown(shape, 60)}")
    if not isinstance(data, (bytes, bytearray)):
        raise CheckpointError("an array holds Python objects")
    if math.prod(filter(None, sides)) * kind.itemsize >= _LONGEST:
        raise CheckpointError(f"an array has the shape {shown(shape, 60)}")
    if math.prod(sides) * kind.itemsize != len(data):
        raise CheckpointError(f"an array of shape {shown(shape, 60)} holds {len(data)} bytes")
    flat = np.frombuffer(bytearray(data), kind) if data else np.empty(0, kind)
    array = flat.reshape(sides, order="F" if order == "F" else "C")
    return np.asarray(array, dtype=kind.newbyteorder("="), order="C")


def reconstruct(*_: object) -> Array:
    """``numpy.core.multiarray._reconstruct``."""
    return Array()


def from_buffer(data: object, dtype: object, shape: object, order: object) -> Array:
    """``numpy.core.numeric._frombuffer`` (pickle protocol 5)."""
    return Array(data, dtype, shape, order)


def scalar(dtype: object, data: object = b"") -> Scalar:
    """``numpy.core.multiarray.scalar``."""
    return Scalar(build_array(data, dtype, (), "C")[()])
