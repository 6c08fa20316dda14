"""Operations that move values."""

from __future__ import annotations

import numpy as np

from tests.ops.spec._types import OpSpec, normal, sample

_EMPTY = np.zeros((0, 4), np.float32)


def _several() -> list[np.ndarray]:
    return [normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)]


OPS = (
    OpSpec(
        "reshape",
        lambda: [
            sample(normal(3, 4), (2, -1)),
            sample(normal(3, 4), (12,)),
            sample(_EMPTY, (0, 2, 2)),
            sample(_EMPTY, (-1, 4)),
        ],
        differentiable=("x",),
    ),
    OpSpec(
        "transpose",
        lambda: [
            sample(normal(2, 3, 4), (0, 2, 1)),
            sample(normal(3, 4), (-1, 0)),
            sample(_EMPTY, (1, 0)),
        ],
        differentiable=("x",),
    ),
    OpSpec(
        "expand_dims",
        lambda: [sample(normal(3, 4), 0), sample(normal(3, 4), -1), sample(_EMPTY, 1)],
        differentiable=("x",),
    ),
    OpSpec(
        "squeeze",
        lambda: [
            sample(normal(3, 1, 4), 1),
            sample(normal(3, 1), -1),
            sample(normal(0, 1), 1),
            sample(normal(3, 4), 1, raises=ValueError),
        ],
        differentiable=("x",),
    ),
    OpSpec(
        "concat",
        lambda: [
            sample(_several(), 0),
            sample([normal(2, 3), normal(2, 1), normal(2, 0)], -1),
            sample([_EMPTY, normal(2, 4)], 0),
            sample([_EMPTY, _EMPTY], 0),
        ],
        differentiable=("xs",),
    ),
    OpSpec(
        "stack",
        lambda: [sample(_several(), 0), sample(_several(), -1), sample([_EMPTY, _EMPTY], 1)],
        differentiable=("xs",),
    ),
    OpSpec(
        "split",
        lambda: [
            sample(normal(5, 3), (2, 0, 3)),
            sample(normal(3, 4), (1, 3), 1),
            sample(_EMPTY, (2, 2), -1),
            sample(normal(5, 3), (2, 2), raises=ValueError),
        ],
        differentiable=("x",),
    ),
    OpSpec(
        "flip",
        lambda: [sample(normal(3, 4), 1), sample(normal(3, 4), (0, -1)), sample(_EMPTY, 0)],
        differentiable=("x",),
    ),
    OpSpec(
        "pad",
        lambda: [
            sample(normal(3, 4), [(1, 0), (2, 3)], 0.5),
            sample(normal(2, 3, 4), [(0, 0), (1, 1), (0, 2)]),
            sample(_EMPTY, [(0, 2), (0, 0)]),
            sample(np.array([[True]]), [(1, 1), (0, 0)], smooth=False),
        ],
        differentiable=("x",),
    ),
    OpSpec(
        "broadcast_to",
        lambda: [
            sample(normal(3, 1), (3, 4)),
            sample(normal(4), (2, 3, 4)),
            sample(normal(1, 4), (0, 4)),
        ],
        differentiable=("x",),
    ),
    OpSpec(
        "tile",
        lambda: [
            sample(normal(3, 4), (2, 1)),
            sample(normal(3, 4), (1, 3)),
            sample(_EMPTY, (2, 2)),
        ],
        differentiable=("x",),
    ),
)
