"""Creation, conversion and gradients."""

from __future__ import annotations

import numpy as np

from tests.ops.spec._types import OpSpec, Sample, normal, sample, special


def _arrays() -> list[Sample]:
    return [
        sample(normal(3, 4)),
        sample(normal(4, 3)[::-1, ::2]),
        sample(np.zeros((0, 4), np.float32)),
        sample([[1, 2**40]]),
        sample([0.5, 1.5]),
        sample(np.array([True, False])),
        sample(np.array([1.0, 1e300])),
        sample(np.array([-1.7, 3.2], np.float32), "int64"),
    ]


def _casts() -> list[Sample]:
    return [
        sample(normal(3, 4) * 5, "int64"),
        sample(np.array([[0.0, 0.5, np.nan]], np.float32), "bool"),
        sample(np.array([[True, False]]), "float32"),
        sample(np.array([[-3, 200]], np.int64), "float32"),
        sample(np.zeros((0, 4), np.float32), "int32"),
    ]


def _tensors() -> list[Sample]:
    return [sample(special()), sample(np.zeros((0, 4), np.float32)), sample(np.array([[2**40]]))]


def _shapes() -> list[Sample]:
    return [
        sample((2, 3)),
        sample((0, 4)),
        sample((2, 2), "int64"),
        sample((2, 2), "bool"),
        sample((2, 2), "float64"),
        sample((2, 2), "float", raises=ValueError),
    ]


OPS = (
    OpSpec("asarray", _arrays, dtype="other", creates=True),
    OpSpec("zeros", _shapes, dtype="other", creates=True),
    OpSpec("ones", _shapes, dtype="other", creates=True),
    OpSpec(
        "full",
        lambda: [
            sample((2, 3), 0.1),
            sample((2,), 2**40, "int64"),
            sample((2,), float("nan")),
            sample((0, 4), 1.0),
        ],
        dtype="other",
        creates=True,
    ),
    OpSpec(
        "arange",
        lambda: [sample(5), sample(0), sample(3, "float32")],
        dtype="other",
        creates=True,
    ),
    OpSpec("to_numpy", _tensors, dtype="other"),
    OpSpec("cast", _casts, dtype="other"),
    OpSpec("dtype", _tensors, dtype="other"),
    OpSpec("shape", _tensors, dtype="other"),
    OpSpec("detach", _tensors),
    OpSpec(
        "item",
        lambda: [
            sample(np.array([[0.5]], np.float32)),
            sample(np.array([2**40])),
            sample(np.array([True])),
            sample(normal(2, 2), raises=ValueError),
        ],
        dtype="other",
    ),
    OpSpec("grad", lambda: [], control=True),
    OpSpec("value_and_grad", lambda: [], control=True),
    OpSpec("no_grad", lambda: [], control=True),
    OpSpec("sync", lambda: [], control=True),
)
