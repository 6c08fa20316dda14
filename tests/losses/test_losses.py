from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.backends import ops
from unidet.losses import giou_loss, iou_loss, l1_loss, sigmoid_focal_loss, smooth_l1_loss


def focal(logits: Any, classes: Any, backend: str, **settings: Any) -> np.ndarray:
    return ops.to_numpy(
        sigmoid_focal_loss(
            ops.asarray(np.array(logits, np.float32), backend=backend),
            ops.asarray(np.array(classes, np.int32), backend=backend),
            **settings,
        )
    )


def test_focal_loss_of_the_untrained_network(backend: str) -> None:
    logit = float(np.log(0.01 / 0.99))
    found = focal([[logit, logit]], [1], backend)
    assert found[0] == pytest.approx([7.53775e-7, 1.12838], rel=1e-4)


def test_negative_classes_are_background(backend: str) -> None:
    logits = np.random.default_rng(0).standard_normal((2, 5, 3))
    found = focal(logits, [[-1, 0, 2, -1, 1]] * 2, backend)
    assert found.shape == (2, 5, 3)
    p = 1 / (1 + np.exp(-logits))
    absent = -0.75 * p**2 * np.log(1 - p)
    present = -0.25 * (1 - p) ** 2 * np.log(p)
    expected = absent.copy()
    for anchor, label in ((1, 0), (2, 2), (4, 1)):
        expected[:, anchor, label] = present[:, anchor, label]
    np.testing.assert_allclose(found, expected, 1e-4, 1e-6)


def test_focal_loss_far_out(backend: str) -> None:
    found = focal([[100.0, -100.0], [100.0, -100.0]], [0, 1], backend)
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx([75.0, 25.0], rel=1e-5)


def test_probability_clamp_bounds_value_and_stops_the_gradient(backend: str) -> None:
    # p is held at 0.9999, so 1 - p is 1e-4.
    expected = -0.75 * 0.9999**2 * np.log(1e-4)
    found = focal([[20.0]], [-1], backend, probability_clamp=1e-4)
    assert found[0, 0] == pytest.approx(expected, rel=1e-4)
    x = ops.asarray(np.array([[20.0], [1.0]], np.float32), backend=backend)
    classes = ops.asarray(np.array([-1, -1], np.int32), backend=backend)
    _, (gradient,) = ops.grad(
        lambda v: ops.sum(sigmoid_focal_loss(v, classes, probability_clamp=1e-4)), [x]
    )
    gradient = ops.to_numpy(gradient)
    assert gradient[0, 0] == 0 and gradient[1, 0] > 0


@pytest.mark.parametrize(
    "settings", [{"alpha": 2.0}, {"gamma": -1.0}, {"probability_clamp": 0.6}], ids=str
)
def test_settings_of_the_focal_loss_are_checked(settings: dict) -> None:
    key = next(iter(settings))
    with pytest.raises(ValueError, match=key):
        sigmoid_focal_loss(np.zeros((1, 1), np.float32), np.zeros(1, np.int32), **settings)


def test_smooth_l1_meets_l1_at_zero(backend: str) -> None:
    x = ops.asarray(np.array([[0.0, 1.0, -3.0]], np.float32), backend=backend)
    y = ops.asarray(np.array([[0.05, 0.0, 0.0]], np.float32), backend=backend)
    narrow = ops.to_numpy(smooth_l1_loss(x, y, 1 / 9))
    assert narrow[0] == pytest.approx([4.5 * 0.05**2, 1 - 1 / 18, 3 - 1 / 18], rel=1e-5)
    zero = ops.to_numpy(smooth_l1_loss(x, y, 0))
    assert zero[0] == pytest.approx(ops.to_numpy(l1_loss(x, y))[0])
    with pytest.raises(ValueError, match="beta"):
        smooth_l1_loss(x, y, -1)


def test_box_losses_by_hand(backend: str) -> None:
    a = ops.asarray(
        np.array([(0, 0, 2, 2), (0, 0, 1, 1), (0, 0, 1, 1)], np.float32), backend=backend
    )
    b = ops.asarray(
        np.array([(1, 0, 3, 2), (0, 0, 1, 1), (3, 0, 4, 1)], np.float32), backend=backend
    )
    assert ops.to_numpy(iou_loss(a, b))[:, 0] == pytest.approx([2 / 3, 0, 1], abs=1e-5)
    # The boxes of the last pair lie 2 apart in a hull of 4.
    assert ops.to_numpy(giou_loss(a, b))[:, 0] == pytest.approx([2 / 3, 0, 1.5], abs=1e-5)
