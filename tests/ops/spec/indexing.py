"""Order and indexing."""

from __future__ import annotations

import numpy as np

from tests.ops.spec._types import OpSpec, Sample, distinct, normal, sample, ties

_EMPTY = np.zeros((0, 4), np.float32)
_NONE = np.zeros(0, np.int64)


def _many_ties() -> np.ndarray:
    rng = np.random.default_rng(3)
    values = rng.integers(-4, 4, (2, 50)).astype(np.float32)
    values[0, 7], values[0, 9], values[1, 3] = np.nan, -0.0, np.inf
    return values


def _orders() -> list[Sample]:
    return [
        sample(distinct(3, 4)),
        sample(distinct(3, 4), 0, True),
        sample(ties(), smooth=False),
        sample(ties(), -1, True, smooth=False),
        sample(_many_ties(), 1, True, smooth=False),
        sample(_EMPTY),
    ]


def _tops() -> list[Sample]:
    return [
        sample(distinct(3, 4), 2),
        sample(distinct(4, 3), 2, 0),
        sample(ties(), 3, smooth=False),
        sample(_many_ties(), 5, smooth=False),
        sample(distinct(3, 4), 0),
        sample(_EMPTY, 2),
        sample(distinct(3, 4), 5, raises=ValueError),
        sample(distinct(3, 4), -1, raises=ValueError),
    ]


def _takes() -> list[Sample]:
    return [
        sample(normal(4, 3), np.array([2, 0, 2])),
        sample(normal(4, 3), np.array([-1, 1, -4]), 0),
        sample(normal(3, 4), np.array([[3, 0], [1, 1]]), 1),
        sample(normal(4, 3), _NONE),
        sample(_EMPTY, _NONE),
        sample(normal(4, 3), np.array([4]), raises=IndexError),
        sample(normal(4, 3), np.array([-5]), raises=IndexError),
    ]


def _gathers() -> list[Sample]:
    return [
        sample(normal(3, 4), np.array([[0, 0], [3, 1], [2, 2]]), 1),
        sample(normal(4, 3), np.array([[3, 0, 3]]), 0),
        sample(normal(3, 4), np.zeros((3, 0), np.int64), 1),
    ]


def _scatters() -> list[Sample]:
    return [
        sample(normal(3, 4), np.array([[0, 0], [3, 1], [2, 2]]), normal(3, 2), 1),
        sample(normal(3), np.array([1, 1, 0, 1]), normal(4)),
        sample(normal(3, 4), np.array([2, 0, 2, 2]), normal(4, 4, seed=1)),
        sample(normal(4, 3), np.array([2, 0]), normal(4, 2), 1),
        sample(normal(3, 4), _NONE, _EMPTY),
    ]


def _puts() -> list[Sample]:
    return [
        sample(normal(4, 3), np.array([2, 0]), normal(2, 3)),
        sample(normal(4, 3), np.array([-1, 1]), normal(2, 3)),
        sample(normal(4), np.array([3, 1]), 7.0),
        sample(normal(4, 3), _NONE, normal(0, 3)),
        sample(normal(4, 3), np.array([4]), normal(1, 3), raises=IndexError),
    ]


def _selections() -> list[Sample]:
    return [
        sample(normal(4, 3), np.array([True, False, True, True])),
        sample(normal(4, 3), normal(4, 3, seed=1) > 0),
        sample(normal(4, 3), np.zeros(4, bool)),
        sample(_EMPTY, np.zeros(0, bool)),
    ]


OPS = (
    OpSpec("argsort", _orders, dtype="int64"),
    OpSpec("sort", _orders, differentiable=("x",)),
    OpSpec("topk", _tops, dtype=("same", "int64"), differentiable=("x",)),
    OpSpec("take", _takes, differentiable=("x",)),
    OpSpec("gather", _gathers, differentiable=("x",)),
    OpSpec("scatter_add", _scatters, tolerance="reduction", differentiable=("x", "source")),
    OpSpec("index_put", _puts, differentiable=("x", "source")),
    OpSpec(
        "nonzero",
        lambda: [
            sample(normal(3, 4) > 0),
            sample(np.zeros((3, 4), bool)),
            sample(np.array([True, False, True])),
            sample(_EMPTY > 0),
        ],
        dtype="int64",
    ),
    OpSpec("masked_select", _selections, differentiable=("x",)),
    OpSpec(
        "one_hot",
        lambda: [
            sample(np.array([2, 0, -1, 3]), 3),
            sample(np.array([[1], [0]]), 2),
            sample(_NONE, 3),
        ],
        dtype="float32",
    ),
    OpSpec(
        "unique",
        lambda: [
            sample(np.array([1.7, 1.2, 1.7, -0.5, 1.2], np.float32)),
            sample(np.array([[3, 1], [2**40, 3]])),
            sample(_NONE),
        ],
    ),
)
