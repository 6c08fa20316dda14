"""The bias of a convolution with and without a ReLU behind it, on maps of every shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.backends import ops

SHAPES = [(2, 3, 4, 5), (1, 3, 4, 5), (2, 3, 1, 7), (2, 3, 7, 1), (1, 3, 1, 1), (2, 3, 40, 41)]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape: tuple[int, ...], kernel: int, backend: str) -> None:
    draw = np.random.default_rng(0)
    x, pull, push = (draw.normal(size=shape).astype(np.float32) for _ in range(3))
    b = draw.normal(size=3).astype(np.float32)
    # Passes its input on, so that what is looked at is the bias alone.
    w = np.zeros((3, 3, kernel, kernel), np.float32)
    w[range(3), range(3), kernel // 2, kernel // 2] = 1
    like = ops.asarray(x, backend=backend)

    def loss(x: Any, b: Any) -> Any:
        y = ops.conv2d(x, ops.asarray(w, like=like), b, padding=kernel // 2)
        rectified = ops.relu(y)
        goals = [ops.asarray(goal, like=like) for goal in (pull, push)]
        return ops.sum(rectified * goals[0] + y * goals[1])

    value, (dx, db) = ops.grad(loss, [like, ops.asarray(b, like=like)])
    y = x + b[:, None, None]
    gradient = np.where(y > 0, pull, 0) + push
    np.testing.assert_allclose(
        ops.item(value), np.sum(np.maximum(y, 0) * pull + y * push), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(ops.to_numpy(dx), gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ops.to_numpy(db), gradient.sum((0, 2, 3)), rtol=1e-4, atol=1e-4)


def test_nan_and_zero(backend: str) -> None:
    x = np.array([np.nan, -1, 0, 1], np.float32).reshape(1, 1, 1, 4)
    one, none = (ops.asarray(np.full(s, v, np.float32), backend=backend)
                 for s, v in (((1, 1, 1, 1), 1), ((1,), 0)))  # fmt: skip

    def loss(x: Any) -> Any:
        return ops.sum(ops.relu(ops.conv2d(x, one, none)))

    image = ops.asarray(x, backend=backend)
    found = ops.to_numpy(ops.relu(ops.conv2d(image, one, none))).ravel()
    np.testing.assert_array_equal(found, [np.nan, 0, 0, 1])
    _, [gradient] = ops.grad(loss, [image])
    np.testing.assert_array_equal(ops.to_numpy(gradient).ravel()[1:], [0, 0, 1])
