"""Elementwise operations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.ops.spec._types import (
    OpSpec,
    Sample,
    away_from_zero,
    normal,
    positive,
    sample,
    special,
    ties,
)

_EMPTY = np.zeros((0, 4), np.float32)


def _unary(
    name: str,
    make: Callable[..., np.ndarray] = normal,
    *,
    smooth: bool = True,
    tolerance: str = "elementwise",
    known: np.ndarray | None = None,
) -> OpSpec:
    """An entry with ordinary, special and no values."""

    def samples() -> list[Sample]:
        extreme = special() if known is None else known
        return [sample(make(3, 4)), sample(extreme, smooth=False), sample(_EMPTY)]

    return OpSpec(name, samples, tolerance=tolerance, differentiable=("x",) if smooth else ())


def _integers() -> np.ndarray:
    return np.array([[-7, -4, -3, -1], [0, 1, 3, 4], [7, 8, -8, 9]], np.int64)


def _pairs() -> list[Sample]:
    return [
        sample(normal(3, 4), normal(3, 4, seed=1)),
        sample(normal(3, 4), normal(4, seed=1)),
        sample(normal(3, 4), 0.25),
        sample(special(), special()[::-1], smooth=False),
        sample(ties(), ties()[:, ::-1], smooth=False),
        sample(_integers(), _integers()[::-1], smooth=False),
        sample(_EMPTY, _EMPTY),
    ]


def _divisions() -> list[Sample]:
    factors = np.array([[3, 7, 41, 0.1], [49, 5, 6, 0.3], [1, 2, 4, 0.7]], np.float32)
    return [
        sample(normal(3, 4) * 5, away_from_zero(3, 4, seed=1)),
        sample(normal(3, 4) * 5, 0.75),
        sample(factors[:, :3].copy(), factors[:, :3].copy(), smooth=False),
        sample(np.arange(-84, 84, 7, dtype=np.float32).reshape(6, 4), 7.0, smooth=False),
        sample(_integers(), 3, smooth=False),
        sample(_integers(), np.array([[2, -2, 3, -3]]), smooth=False),
    ]


def _masks() -> np.ndarray:
    return normal(3, 4) > 0


def _choices() -> list[Sample]:
    return [
        sample(_masks(), normal(3, 4, seed=1), normal(3, 4, seed=2)),
        sample(_masks(), normal(3, 4, seed=1), 0.0),
        sample(_masks(), -1.5, normal(4, seed=2)),
        sample(special() > 0, special(), 2.0, smooth=False),
        sample(_masks(), _integers(), 5, smooth=False),
        sample(_EMPTY > 0, _EMPTY, _EMPTY),
    ]


def _limits() -> list[Sample]:
    return [
        sample(away_from_zero(3, 4), -0.9, 0.8),
        sample(away_from_zero(3, 4), 0.0),
        sample(special(), -1.0, 1.0, smooth=False),
        sample(_integers(), -2, 3, smooth=False),
        sample(_EMPTY, 0.0, 1.0),
    ]


def _predicates() -> list[Sample]:
    return [sample(special()), sample(_integers()), sample(_EMPTY)]


def _logical() -> list[Sample]:
    return [sample(_masks(), normal(3, 4, seed=1) > 0), sample(_EMPTY > 0, _EMPTY > 0)]


_HALVES = np.array(
    [[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], [0.49999997, 3.5, 1e6 + 0.5, np.inf, np.nan, -7.5]],
    np.float32,
)
_KNOWN_SIGNS = np.array([[0.0, -0.0, 1e-30, -1e-30, np.inf, -np.inf]], np.float32)

OPS = (
    _unary("exp"),
    _unary("log", positive),
    _unary("log1p", positive),
    _unary("sqrt", positive),
    _unary("square"),
    _unary("abs", away_from_zero, tolerance="exact"),
    _unary("sign", smooth=False, tolerance="exact", known=_KNOWN_SIGNS),
    _unary("floor", smooth=False, tolerance="exact", known=_HALVES),
    _unary("ceil", smooth=False, tolerance="exact", known=_HALVES),
    _unary("round", smooth=False, tolerance="exact", known=_HALVES),
    _unary("sigmoid"),
    _unary("log_sigmoid"),
    _unary("softplus"),
    _unary("tanh"),
    _unary("arctan"),
    _unary("relu", away_from_zero, tolerance="exact"),
    OpSpec("maximum", _pairs, differentiable=("x", "y")),
    OpSpec("minimum", _pairs, differentiable=("x", "y")),
    OpSpec("clip", _limits, differentiable=("x",)),
    OpSpec("floor_divide", _divisions),
    OpSpec("remainder", _divisions, tolerance="elementwise", differentiable=("x",)),
    OpSpec("where", _choices, dtype="other", differentiable=("x", "y")),
    OpSpec("isnan", _predicates, dtype="bool"),
    OpSpec("isinf", _predicates, dtype="bool"),
    OpSpec("isfinite", _predicates, dtype="bool"),
    OpSpec("logical_not", lambda: [sample(_masks()), sample(_EMPTY > 0)], dtype="bool"),
    OpSpec("logical_and", _logical, dtype="bool"),
    OpSpec("logical_or", _logical, dtype="bool"),
)
