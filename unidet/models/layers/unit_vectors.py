"""Vectors of length one."""

from __future__ import annotations

from typing import Any

from unidet.backends import ops

#: Least norm that a vector is divided by, so that zeros stay zeros.
LEAST_NORM = 1e-12


def unit_vectors(x: Any, axis: int) -> Any:
    """``x`` over its Euclidean norm along ``axis``, of the same shape."""
    norm = ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=True))
    return x / ops.clip(norm, LEAST_NORM)
