"""GIoU, DIoU and CIoU: values by hand, gradients by a judge, and boxes that divide by zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.backends import ops
from unidet.losses import BOX_LOSSES, PAIRWISE, ciou_loss, giou_loss

#: Prediction, target, and what GIoU, DIoU and CIoU of them are.
KNOWN = (
    ((0.1, 0.1, 0.5, 0.4), (0.2, 0.15, 0.6, 0.65), (0.197032, 0.247299, 0.246370)),
    ((0.1, 0.1, 0.2, 0.2), (0.5, 0.5, 0.8, 0.7), (-0.833333, -0.532353, -0.532598)),
    ((0.2, 0.2, 0.6, 0.6), (0.3, 0.3, 0.5, 0.5), (0.25, 0.25, 0.25)),
)
A, B = (np.array([row[i] for row in KNOWN], np.float32) for i in (0, 1))

#: Pairs that divide by zero somewhere.
ODD = np.array(
    [
        [(1, 1, 1, 1), (1, 1, 1, 1)],  # one point twice
        [(1, 1, 1, 1), (3, 2, 3, 2)],  # two points
        [(1, 1, 1, 1), (0, 0, 3, 2)],  # a point inside
        [(2, 1, 2, 5), (2, 1, 2, 5)],  # one line twice
        [(2, 1, 2, 5), (2, 3, 2, 9)],  # lines that overlap
        [(2, 1, 2, 5), (1, 3, 6, 3)],  # lines that cross
        [(1, 3, 6, 3), (1, 3, 6, 4)],  # a line along an edge
        [(1, 1, 4, 5), (1, 1, 4, 5)],  # equal boxes
        [(1, 1, 4, 5), (4, 5, 6, 7)],  # boxes that touch
        [(0, 0, 1e-7, 1e-7), (0, 0, 1e-7, 2e-7)],  # areas next to nothing
        [(0, 0, 1e-12, 1e-12), (0, 0, 1e-12, 1e-12)],
        [(0, 0, 1e-30, 1), (0, 0, 1, 1e-30)],
        [(0, 0, 1, 1), (1e6, 1e6, 1e6 + 1, 1e6 + 2)],  # far apart
        [(-1e6, 0, -1e6 + 5, 5), (1e6, 0, 1e6 + 5, 1e6)],
    ],
    np.float64,
)


def value_and_gradients(
    kind: str, a: np.ndarray, b: np.ndarray, backend: str, **options: Any
) -> tuple[np.ndarray, list[np.ndarray]]:
    x, y = (ops.asarray(np.asarray(boxes, np.float32), backend=backend) for boxes in (a, b))
    loss = BOX_LOSSES[kind]
    gradients = ops.grad(lambda p, q: ops.sum(loss(p, q, **options)), [x, y])[1]
    return ops.to_numpy(loss(x, y, **options)), [ops.to_numpy(g) for g in gradients]


def judge(a: np.ndarray, b: np.ndarray, alpha: float | None = None) -> tuple[float, float, float]:
    """CIoU of two boxes in float64, its ``alpha`` and IoU, written from the paper."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    (aw, ah), (bw, bh) = a[2:] - a[:2], b[2:] - b[:2]
    iou = shared / (aw * ah + bw * bh - shared)
    hull = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    apart = (a[:2] + a[2:] - b[:2] - b[2:]) / 2
    v = 4 / np.pi**2 * (np.arctan2(bw, bh) - np.arctan2(aw, ah)) ** 2
    alpha = v / (1 - iou + v) if alpha is None else alpha
    return iou - apart @ apart / (hull @ hull) - alpha * v, alpha, iou


@pytest.mark.parametrize("kind", BOX_LOSSES)
@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_known_values(backend: str, kind: str, eps: float) -> None:
    wanted = [1 - row[2][list(BOX_LOSSES).index(kind)] for row in KNOWN]
    found, _ = value_and_gradients(kind, A, B, backend, eps=eps)
    assert found.shape == (3, 1)
    assert found[:, 0] == pytest.approx(wanted, abs=3e-6)


def test_ciou_gradient_holds_alpha(backend: str) -> None:
    rng = np.random.default_rng(2)
    a = np.sort(rng.uniform(0, 1, (8, 2, 2)), axis=1).reshape(8, 4)
    b = a + rng.uniform(-0.02, 0.02, (8, 4))
    b[4:] = np.sort(rng.uniform(0, 1, (4, 2, 2)), axis=1).reshape(4, 4)
    step = 1e-6
    for gate in (False, True):
        value, (gradient, _) = value_and_gradients("ciou", a, b, backend, eps=0.0, gate=gate)
        gated = 0
        for i, (one, other) in enumerate(zip(a, b)):
            _, alpha, iou = judge(one, other)
            if gate and iou <= 0.5:
                alpha, gated = 0.0, gated + 1
            assert value[i, 0] == pytest.approx(1 - judge(one, other, alpha)[0], abs=1e-5)
            for k in range(4):
                up, down = one.copy(), one.copy()
                up[k] += step
                down[k] -= step
                rise = judge(up, other, alpha)[0] - judge(down, other, alpha)[0]
                assert gradient[i, k] == pytest.approx(-rise / (2 * step), rel=1e-3, abs=1e-4)
        assert not gate or 0 < gated < 8


@pytest.mark.parametrize("kind", BOX_LOSSES)
@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_odd_boxes_give_finite_numbers(backend: str, kind: str, eps: float) -> None:
    both = np.concatenate([ODD, ODD[:, ::-1]])
    value, gradients = value_and_gradients(kind, both[:, 0], both[:, 1], backend, eps=eps)
    assert np.isfinite(value).all()
    assert (value > -1e-5).all() and (value < 3 + 1e-5).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    # Equal boxes have nothing to lose but what is divided by nothing.
    assert value[7, 0] == pytest.approx(0, abs=1e-6)
    assert value[0, 0] == pytest.approx(1, abs=1e-6)


def test_eps_matters_for_small_boxes_alone(backend: str) -> None:
    a, b = np.array([[0, 0, 1e-3, 1e-3]]), np.array([[0, 0, 1e-3, 5e-4]])
    exact, _ = value_and_gradients("giou", a, b, backend, eps=0.0)
    padded, _ = value_and_gradients("giou", a, b, backend)
    assert exact[0, 0] == pytest.approx(0.5, abs=1e-5)
    assert padded[0, 0] == pytest.approx(1 - 0.5 / 1.1, abs=1e-5)
    with pytest.raises(ValueError, match="eps"):
        giou_loss(A, B, eps=-1e-7)


def test_the_gate_opens_above_one_half() -> None:
    # The larger height decides IoU: 0.5 and a little more.
    a = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float64)
    b = np.array([[0, 0, 1, 2], [0, 0, 1, 1.9]], np.float64)
    closed, open_ = (ciou_loss(a, b, eps=0.0, gate=True) - ciou_loss(a, b, eps=0.0))[:, 0]
    assert closed < -1e-3 and open_ == 0


@pytest.mark.parametrize("kind", PAIRWISE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs(kind: str, dtype: type) -> None:
    a, b = A.astype(dtype), B[:2].astype(dtype)
    found = PAIRWISE[kind](a, b)
    assert found.shape == (3, 2) and found.dtype == dtype
    for i, j in np.ndindex(3, 2):
        one = BOX_LOSSES[kind](a[i : i + 1], b[j : j + 1], eps=0.0)
        assert found[i, j] == pytest.approx(1 - one[0, 0], abs=1e-6)
    assert PAIRWISE[kind](a[:0], b).shape == (0, 2)
    assert PAIRWISE[kind](a, b[:0]).shape == (3, 0)
    odd = PAIRWISE[kind](ODD[:, 0].astype(dtype), ODD[:, 1].astype(dtype))
    assert np.isfinite(odd).all() and (odd <= 1 + 1e-6).all()
