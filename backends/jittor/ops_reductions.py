"""Reductions of ``jittor.Var``. Signatures and meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.host import constant, dtype_of, select

Var = Any
Axis = int | Sequence[int] | None


def _axes(x: Var, axis: Axis) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))


def _count(x: Var, axis: Axis) -> int:
    return int(np.prod([x.shape[a] for a in _axes(x, axis)], dtype=np.int64))


def _not_empty(x: Var, axis: Axis) -> None:
    # Jittor would answer -3.4e38, or index 0.
    if _count(x, axis) == 0:
        raise ValueError(
            f"Invalid value for `x`. Expected elements along axis {axis}. Received shape "
            f"{tuple(x.shape)}."
        )


def sum(x: Var, axis: Axis = None, keepdims: bool = False) -> Var:
    kind = dtype_of(x)
    if not x.dtype.is_float():
        return jt.sum(x.int64(), _axes(x, axis), keepdims)
    # Jittor adds one by one: in float32 four million terms are 4 % off. In float64 the same kernel
    # is right and, for lack of a dependency on rounding, faster.
    return jt.cast(jt.sum(x.float64(), _axes(x, axis), keepdims), kind)


def mean(x: Var, axis: Axis = None, keepdims: bool = False) -> Var:
    if not x.dtype.is_float():
        raise TypeError(f"Invalid value for `x`. Expected a floating tensor. Received {x.dtype}.")
    return _divided(sum(x, axis, keepdims), _count(x, axis))


def _divided(total: Var, count: int) -> Var:
    # Nothing divided by nothing is NaN; a constant would make the compiler's fast mathematics 0.
    return total * constant(1 / count if count else float("nan"), total)


class _Extreme(jt.Function):
    """Largest or smallest value. NaN wins, and ties share the gradient."""

    def execute(self, x: Var, axes: tuple[int, ...], name: str) -> Var:
        self.x, self.axes = x, axes
        top = getattr(jt, name)(x, axes, keepdims=True)
        # Jittor drops NaN, and starts from the largest finite number where all are infinite.
        finds = select(x == top, constant(1, x), constant(0, x))
        found = jt.max(select(x != x, constant(2, x), finds), axes, keepdims=True)
        endless = constant(float("-inf" if name == "max" else "inf"), x)
        top = select(found == 0, endless, top)
        self.top = select(found == 2, constant(float("nan"), x), top)
        return self.top

    def grad(self, gradient: Var) -> tuple[Var, None, None]:
        ties = (self.x == self.top) | ((self.x != self.x) & (self.top != self.top))
        share = ties.float32()
        share = share / jt.sum(share, self.axes, keepdims=True)
        return gradient * jt.cast(share, dtype_of(gradient)), None, None


def max(x: Var, axis: Axis = None, keepdims: bool = False) -> Var:
    return _extreme(x, axis, keepdims, "max")


def min(x: Var, axis: Axis = None, keepdims: bool = False) -> Var:
    return _extreme(x, axis, keepdims, "min")


def _extreme(x: Var, axis: Axis, keepdims: bool, name: str) -> Var:
    _not_empty(x, axis)
    axes = _axes(x, axis)
    if not x.dtype.is_float():
        return getattr(jt, name)(x, axes, keepdims)
    top = _Extreme.apply(x, axes, name)
    return top if keepdims else _without(top, axes)


def _without(x: Var, axes: tuple[int, ...]) -> Var:
    sizes = [size for a, size in enumerate(x.shape) if a not in axes]
    return x.reshape(sizes or [1])


def any(x: Var, axis: Axis = None, keepdims: bool = False) -> Var:
    return _logical(x, axis, keepdims, lambda count, total: count > 0)


def all(x: Var, axis: Axis = None, keepdims: bool = False) -> Var:
    return _logical(x, axis, keepdims, lambda count, total: count == total)


def _logical(x: Var, axis: Axis, keepdims: bool, test: Any) -> Var:
    count = jt.sum(jt.cast(x, "bool").int32(), _axes(x, axis), keepdims)
    return test(count, _count(x, axis))


def var(x: Var, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Var:
    deviation = x - mean(x, axis, True)
    return _divided(
        sum(deviation * deviation, axis, keepdims), np.maximum(_count(x, axis) - correction, 0)
    )


def argmax(x: Var, axis: int) -> Var:
    return _position(x, axis, "max")


def argmin(x: Var, axis: int) -> Var:
    return _position(x, axis, "min")


def _position(x: Var, axis: int, name: str) -> Var:
    _not_empty(x, axis)
    axis = axis % x.ndim
    x = x.detach()
    index = jt.arg_reduce(x, name, axis, False)[0]
    if x.dtype.is_float():
        # Jittor passes over NaN, which torch counts as the extreme.
        unknown = (x != x).int32()
        which, found = jt.arg_reduce(unknown, "max", axis, False)
        index = select(found > 0, which, index)
    return index.int64()


def cumsum(x: Var, axis: int) -> Var:
    axis = axis % x.ndim
    if not x.dtype.is_float():
        return jt.cumsum(x.int64(), axis)
    return jt.cast(jt.cumsum(x.float64(), axis), dtype_of(x))


def _shift(x: Var, axis: int) -> Var:
    """Largest value along ``axis`` as a constant, 0 where it is infinite."""
    top = jt.max(x.detach(), (axis,), keepdims=True)
    return select(top > 3.4e38, constant(0, x), top)


def logsumexp(x: Var, axis: int, keepdims: bool = False) -> Var:
    top = _shift(x, axis % x.ndim)
    result = jt.log(sum(jt.exp(x - top), axis, True)) + top
    return result if keepdims else _without(result, (axis % x.ndim,))


class _Softmax(jt.Function):
    def execute(self, x: Var, axis: int) -> Var:
        self.axis = axis
        powers = jt.exp(x - jt.max(x, (axis,), keepdims=True))
        self.result = powers / sum(powers, axis, True)
        return self.result

    def grad(self, gradient: Var) -> tuple[Var, None]:
        weighted = gradient * self.result
        return weighted - self.result * sum(weighted, self.axis, True), None


def softmax(x: Var, axis: int) -> Var:
    return _Softmax.apply(x, axis % x.ndim)


class _LogSoftmax(jt.Function):
    def execute(self, x: Var, axis: int) -> Var:
        self.axis = axis
        # The shift comes off first: x - logsumexp(x) would lose the digits of large logits. Written
        # with abs, the compiler cannot put the terms in another order.
        shifted = -jt.abs(jt.max(x, (axis,), keepdims=True) - x)
        self.result = shifted - jt.log(sum(jt.exp(shifted), axis, True))
        return self.result

    def grad(self, gradient: Var) -> tuple[Var, None]:
        return gradient - jt.exp(self.result) * sum(gradient, self.axis, True), None


def log_softmax(x: Var, axis: int) -> Var:
    return _LogSoftmax.apply(x, axis % x.ndim)
