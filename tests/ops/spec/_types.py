"""The form of an entry, and the values that samples are made of."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from unidet.backends import ops


class Tolerance(NamedTuple):
    """Two numbers agree if ``|a - b| <= absolute + relative * |b|``."""

    relative: float
    absolute: float


#: The only tolerances there are. Gradients also need a cosine of 0.99999.
TOLERANCES = {
    "exact": Tolerance(0, 0),
    "elementwise": Tolerance(1.3e-6, 1e-5),
    "reduction": Tolerance(1e-5, 1e-5),
    "conv": Tolerance(1e-4, 1e-4),
    "gradient": Tolerance(1e-4, 1e-5),
    "half": Tolerance(4e-3, 4e-3),
}


@dataclass(frozen=True)
class Sample:
    """Arguments of one call, with NumPy arrays for tensors.

    Attributes:
        args: positional arguments.
        options: keyword arguments.
        smooth: whether the operation has a derivative here that differences can show.
        raises: the error that the call must end in.
    """

    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    smooth: bool = True
    raises: type[Exception] | None = None


@dataclass(frozen=True)
class OpSpec:
    """One operation.

    Attributes:
        name: its name in :mod:`unidet.backends.ops`.
        samples: makes the sample calls.
        dtype: dtype of the result, or of each: "same" (as the first tensor), a name, or "other"
            where an argument says it or the result is no tensor.
        tolerance: name in :data:`TOLERANCES`.
        differentiable: parameters that gradients flow to.
        creates: whether it makes tensors from plain values.
        control: whether it acts on functions or on the device; such have tests of their own.
    """

    name: str
    samples: Callable[[], list[Sample]]
    dtype: str | tuple[str, ...] = "same"
    tolerance: str = "exact"
    differentiable: tuple[str, ...] = ()
    creates: bool = False
    control: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        """The public function."""
        return getattr(ops, self.name)

    @property
    def signature(self) -> inspect.Signature:
        """Of the public function, which all implementations share."""
        return inspect.signature(self.function)

    @property
    def meaning(self) -> str:
        """First line of the documentation."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]


def sample(
    *args: Any, smooth: bool = True, raises: type[Exception] | None = None, **options: Any
) -> Sample:
    """A :class:`Sample` written like the call."""
    return Sample(args, options, smooth and raises is None, raises)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 standard normal numbers, always the same for a shape and seed."""
    key = zlib.crc32(repr((shape, seed)).encode())
    return np.random.default_rng(key).normal(size=shape).astype(np.float32)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 numbers from 0.2 upwards."""
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.2)


def away_from_zero(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 numbers with ``|x| >= 0.2``."""
    x = normal(*shape, seed=seed)
    return np.where(x < 0, x - np.float32(0.2), x + np.float32(0.2)).astype(np.float32)


def distinct(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 numbers of which no two are closer than 0.1."""
    count = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(count)
    return ((order - count / 2) / 8).reshape(shape).astype(np.float32)


def special() -> np.ndarray:
    """``(2, 6)`` float32: what goes wrong elsewhere."""
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 60.0, -60.0, 1e-6, 0.5, -2.5]
    return np.array(values, np.float32).reshape(2, 6)


def ties() -> np.ndarray:
    """``(3, 4)`` float32 with equal values in each line."""
    return np.array([[1, 3, 3, 2], [2, 2, 2, 2], [5, -1, 5, -1]], np.float32)


def boxes(count: int, seed: int = 0) -> np.ndarray:
    """``(count, 4)`` float32 boxes x1, y1, x2, y2 that overlap now and then."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 30, (count, 2))
    return np.concatenate([low, low + rng.uniform(4, 20, (count, 2))], 1).astype(np.float32)
