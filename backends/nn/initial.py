"""Initial values as NumPy arrays, for :meth:`unidet.backends.nn.module.Module.initial_values`.

Each function takes the generator of one parameter, so that both frameworks get the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def uniform(generator: np.random.Generator, shape: Sequence[int], bound: float) -> np.ndarray:
    """Float32 values, uniform in ``[-bound, bound)``."""
    values = generator.random(tuple(shape), dtype=np.float32)
    return (values * 2 - 1) * np.float32(bound)


def normal(generator: np.random.Generator, shape: Sequence[int], std: float = 1.0) -> np.ndarray:
    """Float32 values, normal with mean 0."""
    return generator.standard_normal(tuple(shape), dtype=np.float32) * np.float32(std)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """``(fan_in, fan_out)`` of a weight of shape ``(out, in, *kernel)``."""
    receptive = int(np.prod(shape[2:]))
    return int(shape[1]) * receptive, int(shape[0]) * receptive


def kaiming_uniform(
    generator: np.random.Generator, shape: Sequence[int], a: float = 1.0
) -> np.ndarray:
    """Uniform values of variance ``2 / ((1 + a^2) fan_in)`` (He et al. 2015)."""
    return uniform(generator, shape, np.sqrt(6 / ((1 + a**2) * fans(shape)[0])))


def kaiming_normal(
    generator: np.random.Generator, shape: Sequence[int], mode: str = "fan_out"
) -> np.ndarray:
    """Normal values of variance ``2 / fan``, for layers followed by ReLU (He et al. 2015).

    Raises:
        ValueError: ``mode`` is neither ``"fan_in"`` nor ``"fan_out"``.
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(
            f"Invalid value for `mode`. Expected 'fan_in' or 'fan_out'. Received {mode!r}."
        )
    return normal(generator, shape, np.sqrt(2 / fans(shape)[mode == "fan_out"]))


def xavier_uniform(generator: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Uniform values of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio 2010)."""
    return uniform(generator, shape, np.sqrt(6 / sum(fans(shape))))
