"""Reductions. ``axis`` is an integer, several, or None for all axes; ``keepdims`` as in NumPy.

A full reduction has shape ``()`` on torch and NumPy and ``(1,)`` on Jittor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor

__all__ = [
    "sum", "mean", "max", "min", "any", "all", "var", "argmax", "argmin", "cumsum", "logsumexp",
    "softmax", "log_softmax",
]  # fmt: skip

Axis: TypeAlias = "int | Sequence[int] | None"


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum; bool and integers are summed as int64. Large float32 tensors lose no accuracy."""
    return IMPLEMENTATION[type(x)].sum(x, axis, keepdims)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean of a floating tensor; NaN over nothing.

    Raises:
        TypeError: ``x`` is not floating.
    """
    return IMPLEMENTATION[type(x)].mean(x, axis, keepdims)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest value (values only); ties share the gradient equally. NaN if any is NaN.

    Raises:
        ValueError: there is nothing to choose from.
    """
    return IMPLEMENTATION[type(x)].max(x, axis, keepdims)


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest value (values only); ties share the gradient equally. NaN if any is NaN.

    Raises:
        ValueError: there is nothing to choose from.
    """
    return IMPLEMENTATION[type(x)].min(x, axis, keepdims)


def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element of a bool tensor is True; False over nothing."""
    return IMPLEMENTATION[type(x)].any(x, axis, keepdims)


def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements of a bool tensor are True; True over nothing."""
    return IMPLEMENTATION[type(x)].all(x, axis, keepdims)


def var(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """Variance in two passes: squared deviations over ``n - correction``."""
    return IMPLEMENTATION[type(x)].var(x, axis, keepdims, correction)


def argmax(x: Tensor, axis: int) -> Tensor:
    """int64 index of the largest value, the first at ties; NaN counts as largest.

    Raises:
        ValueError: there is nothing to choose from.
    """
    return IMPLEMENTATION[type(x)].argmax(x, axis)


def argmin(x: Tensor, axis: int) -> Tensor:
    """int64 index of the smallest value, the first at ties; NaN counts as smallest.

    Raises:
        ValueError: there is nothing to choose from.
    """
    return IMPLEMENTATION[type(x)].argmin(x, axis)


def cumsum(x: Tensor, axis: int) -> Tensor:
    """Running sum along ``axis``; bool and integers are summed as int64."""
    return IMPLEMENTATION[type(x)].cumsum(x, axis)


def logsumexp(x: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` without overflow; -inf where all are -inf."""
    return IMPLEMENTATION[type(x)].logsumexp(x, axis, keepdims)


def softmax(x: Tensor, axis: int) -> Tensor:
    """``exp(x) / sum(exp(x))`` without overflow; NaN where all are -inf."""
    return IMPLEMENTATION[type(x)].softmax(x, axis)


def log_softmax(x: Tensor, axis: int) -> Tensor:
    """``x - logsumexp(x)``."""
    return IMPLEMENTATION[type(x)].log_softmax(x, axis)
