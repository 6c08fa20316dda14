"""Reductions."""

from __future__ import annotations

import numpy as np

from tests.ops.spec._types import OpSpec, Sample, distinct, normal, sample, ties

_EMPTY = np.zeros((0, 4), np.float32)


def _infinite() -> np.ndarray:
    nan, inf = np.nan, np.inf
    lines = [[1, nan, 3, inf], [-inf, -inf, -inf, -inf], [-inf, 2, inf, -1], [nan, 1, -inf, 0]]
    return np.array(lines, np.float32)


def _sums() -> list[Sample]:
    return [
        sample(normal(3, 4)),
        sample(normal(3, 4), 0, keepdims=True),
        sample(normal(2, 3, 4), (0, 2)),
        sample(np.array([[True, True, False]] * 100)),
        sample(np.full((300, 2), 100, np.uint8), 0),
        sample(_EMPTY, 0),
        sample(_EMPTY),
    ]


def _means() -> list[Sample]:
    return [
        sample(normal(3, 4)),
        sample(normal(3, 4), -1, keepdims=True),
        sample(normal(2, 3, 4), (0, 2)),
        sample(_EMPTY, 0, smooth=False),
        sample(_EMPTY, smooth=False),
        sample(np.array([1, 2]), raises=TypeError),
    ]


def _extremes() -> list[Sample]:
    return [
        sample(distinct(3, 4)),
        sample(distinct(3, 4), 1, keepdims=True),
        sample(distinct(2, 3, 4), (0, 2)),
        sample(_infinite(), 1, smooth=False),
        sample(ties().astype(np.int64), 0, smooth=False),
        sample(_EMPTY, 1),
        sample(_EMPTY, 0, raises=ValueError),
        sample(_EMPTY, raises=ValueError),
    ]


def _logical() -> list[Sample]:
    flags = np.array([[True, False, True], [False, False, True]])
    return [
        sample(flags),
        sample(flags, 0, keepdims=True),
        sample(flags, 1),
        sample(_EMPTY > 0, 0),
        sample(_EMPTY > 0),
    ]


def _positions() -> list[Sample]:
    return [
        sample(distinct(3, 4), 1),
        sample(ties(), 1),
        sample(ties(), 0),
        sample(_infinite(), -1),
        sample(_EMPTY, 1),
        sample(_EMPTY, 0, raises=ValueError),
    ]


def _running() -> list[Sample]:
    return [
        sample(normal(3, 4), 1),
        sample(normal(3, 4), -2),
        sample(np.array([[True, True, False, True]] * 3), 1, smooth=False),
        sample(_EMPTY, 0),
    ]


def _exponentials() -> list[Sample]:
    large = np.array([[1000, 1001, -5], [-1000, -1002, -1001], [3, 3, 3]], np.float32)
    masked = np.array([[0, -np.inf, 1], [-np.inf] * 3, [np.nan, 0, 0]], np.float32)
    return [
        sample(normal(3, 4), 1),
        sample(normal(3, 4), 0),
        sample(large, 1),
        sample(masked, -1, smooth=False),
        sample(_EMPTY, 1),
    ]


OPS = (
    OpSpec("sum", _sums, dtype="other", tolerance="reduction", differentiable=("x",)),
    OpSpec("mean", _means, tolerance="reduction", differentiable=("x",)),
    OpSpec("max", _extremes, differentiable=("x",)),
    OpSpec("min", _extremes, differentiable=("x",)),
    OpSpec("any", _logical, dtype="bool"),
    OpSpec("all", _logical, dtype="bool"),
    OpSpec(
        "var",
        lambda: [
            sample(normal(3, 4), 1),
            sample(normal(3, 4), None, True, 1),
            sample(normal(3, 40) + 300, 1, smooth=False),
        ],
        tolerance="reduction",
        differentiable=("x",),
    ),
    OpSpec("argmax", _positions, dtype="int64"),
    OpSpec("argmin", _positions, dtype="int64"),
    OpSpec("cumsum", _running, dtype="other", tolerance="reduction", differentiable=("x",)),
    OpSpec("logsumexp", _exponentials, tolerance="reduction", differentiable=("x",)),
    OpSpec("softmax", _exponentials, tolerance="reduction", differentiable=("x",)),
    OpSpec("log_softmax", _exponentials, tolerance="reduction", differentiable=("x",)),
)
