"""Elementwise operations. Shapes broadcast as in NumPy.

Dtypes: floating tensors keep theirs. Two tensors have the same dtype; a Python number takes the
tensor's. NaN propagates through every operation unless its entry says otherwise.
"""

from __future__ import annotations

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor

__all__ = [
    "exp", "log", "log1p", "sqrt", "square", "abs", "sign", "floor", "ceil", "round", "sigmoid",
    "log_sigmoid", "softplus", "tanh", "arctan", "relu", "maximum", "minimum", "clip",
    "floor_divide", "remainder", "where", "isnan", "isinf", "isfinite", "logical_not",
    "logical_and", "logical_or",
]  # fmt: skip


def exp(x: Tensor) -> Tensor:
    """``e ** x``."""
    return IMPLEMENTATION[type(x)].exp(x)


def log(x: Tensor) -> Tensor:
    """Natural logarithm; -inf at 0, NaN below."""
    return IMPLEMENTATION[type(x)].log(x)


def log1p(x: Tensor) -> Tensor:
    """``log(1 + x)``, accurate near 0."""
    return IMPLEMENTATION[type(x)].log1p(x)


def sqrt(x: Tensor) -> Tensor:
    """Square root; NaN below 0."""
    return IMPLEMENTATION[type(x)].sqrt(x)


def square(x: Tensor) -> Tensor:
    """``x * x``."""
    return IMPLEMENTATION[type(x)].square(x)


def abs(x: Tensor) -> Tensor:
    """Absolute value; gradient 0 at 0."""
    return IMPLEMENTATION[type(x)].abs(x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1, without a gradient; unspecified for NaN."""
    return IMPLEMENTATION[type(x)].sign(x)


def floor(x: Tensor) -> Tensor:
    """Largest integer not above ``x``, in the dtype of ``x``, without a gradient."""
    return IMPLEMENTATION[type(x)].floor(x)


def ceil(x: Tensor) -> Tensor:
    """Smallest integer not below ``x``, in the dtype of ``x``, without a gradient."""
    return IMPLEMENTATION[type(x)].ceil(x)


def round(x: Tensor) -> Tensor:
    """Nearest integer, halves to the even one, in the dtype of ``x``, without a gradient."""
    return IMPLEMENTATION[type(x)].round(x)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return IMPLEMENTATION[type(x)].sigmoid(x)


def log_sigmoid(x: Tensor) -> Tensor:
    """``log(sigmoid(x))``, accurate for any ``x``."""
    return IMPLEMENTATION[type(x)].log_sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, accurate for any ``x``."""
    return IMPLEMENTATION[type(x)].softplus(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return IMPLEMENTATION[type(x)].tanh(x)


def arctan(x: Tensor) -> Tensor:
    """Angle in radians, in (-pi/2, pi/2), whose tangent is ``x``."""
    return IMPLEMENTATION[type(x)].arctan(x)


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``; gradient 0 at 0."""
    return IMPLEMENTATION[type(x)].relu(x)


def maximum(x: Tensor, y: Tensor | float) -> Tensor:
    """The larger of the two; at ties each gets half the gradient. NaN if either is NaN."""
    return IMPLEMENTATION[type(x)].maximum(x, y)


def minimum(x: Tensor, y: Tensor | float) -> Tensor:
    """The smaller of the two; at ties each gets half the gradient. NaN if either is NaN."""
    return IMPLEMENTATION[type(x)].minimum(x, y)


def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """``x`` limited to ``[low, high]``; gradient 1 inside and at the bounds, 0 outside."""
    return IMPLEMENTATION[type(x)].clip(x, low, high)


def floor_divide(x: Tensor, y: Tensor | float) -> Tensor:
    """``floor(x / y)`` in the dtype of ``x``, for integers too; no gradient. ``y`` is not 0."""
    return IMPLEMENTATION[type(x)].floor_divide(x, y)


def remainder(x: Tensor, y: Tensor | float) -> Tensor:
    """``x - floor(x / y) * y``: the sign of ``y``, as Python's ``%``. ``y`` is not 0.

    Differentiable in ``x`` where both are floating.
    """
    return IMPLEMENTATION[type(x)].remainder(x, y)


def where(c: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
    """``x`` where the bool tensor ``c`` is True, else ``y``; one of them is a tensor."""
    return IMPLEMENTATION[type(c)].where(c, x, y)


def isnan(x: Tensor) -> Tensor:
    """Whether each element is NaN, as bool."""
    return IMPLEMENTATION[type(x)].isnan(x)


def isinf(x: Tensor) -> Tensor:
    """Whether each element is infinite, as bool."""
    return IMPLEMENTATION[type(x)].isinf(x)


def isfinite(x: Tensor) -> Tensor:
    """Whether each element is neither infinite nor NaN, as bool."""
    return IMPLEMENTATION[type(x)].isfinite(x)


def logical_not(x: Tensor) -> Tensor:
    """``not x`` for each element of a bool tensor."""
    return IMPLEMENTATION[type(x)].logical_not(x)


def logical_and(x: Tensor, y: Tensor) -> Tensor:
    """``x and y`` for each element of two bool tensors."""
    return IMPLEMENTATION[type(x)].logical_and(x, y)


def logical_or(x: Tensor, y: Tensor) -> Tensor:
    """``x or y`` for each element of two bool tensors."""
    return IMPLEMENTATION[type(x)].logical_or(x, y)
