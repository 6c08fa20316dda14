"""Losses on ``jittor.Var``, each one fused kernel forward and one backward.

Meaning: :mod:`unidet.backends.ops`. All of them rest on ``e = exp(-|x|)``, which cannot overflow:
``sigmoid(|x|) = 1 / (1 + e)`` and ``softplus(x) = max(x, 0) + log(1 + e)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.host import constant, dtype_of, select
from unidet.backends.jittor.ops_reductions import log_softmax, sum

Var = Any


def _log_one_plus(e: Var) -> Var:
    """``log(1 + e)`` for ``e`` in [0, 1] to 1e-8, also where 1 + e would round to 1."""
    s = e / (2 + e)
    z = s * s
    series = 1 / 9 + z * (1 / 11 + z * (1 / 13 + z / 15))
    return 2 * s * (1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * series))))


def _parts(x: Var) -> tuple[Var, Var, Var, Var]:
    """``x > 0`` as a number, ``e``, ``sigmoid(x)`` and ``sigmoid(-x)``."""
    positive = jt.cast(x > 0, dtype_of(x))
    e = jt.exp(-jt.abs(x))
    top = 1 / (1 + e)
    p = select(x > 0, top, e * top)
    q = select(x > 0, e * top, top)
    return positive, e, p, q


class _Softplus(jt.Function):
    def execute(self, x: Var) -> Var:
        self.x = x
        return select(x <= 0, constant(0, x), x) + _log_one_plus(jt.exp(-jt.abs(x)))

    def grad(self, gradient: Var) -> Var:
        return gradient * _parts(self.x)[2]


def softplus(x: Var) -> Var:
    return _Softplus.apply(x)


def log_sigmoid(x: Var) -> Var:
    return -_Softplus.apply(-x)


def _cross(x: Var, y: Var, positive: Var, e: Var) -> Var:
    # (positive - y) is exactly 0 for a sure and right answer, however large the logit.
    return x * (positive - y) + _log_one_plus(e)


class _CrossEntropy(jt.Function):
    def execute(self, x: Var, y: Var) -> Var:
        self.x, self.y = x, y
        positive, e, _, _ = _parts(x)
        return _cross(x, y, positive, e)

    def grad(self, gradient: Var) -> tuple[Var, Var]:
        return gradient * (_parts(self.x)[2] - self.y), -gradient * self.x


def binary_cross_entropy_with_logits(x: Var, y: Var) -> Var:
    return _CrossEntropy.apply(x, y)


class _Focal(jt.Function):
    def execute(self, x: Var, y: Var, alpha: float, gamma: float) -> Var:
        self.x, self.y, self.alpha, self.gamma = x, y, alpha, gamma
        positive, e, p, q = _parts(x)
        miss = p + y * (q - p)
        return _weight(y, alpha) * _power(miss, gamma) * _cross(x, y, positive, e)

    def grad(self, gradient: Var) -> tuple[Var, None, None, None]:
        x, y, gamma = self.x, self.y, self.gamma
        positive, e, p, q = _parts(x)
        miss = p + y * (q - p)
        slope = _power(miss, gamma) * (p - y)
        if gamma:
            rise = gamma * _power(miss, gamma - 1) * p * q * (1 - 2 * y)
            slope = slope + rise * _cross(x, y, positive, e)
        return gradient * _weight(y, self.alpha) * slope, None, None, None


def _weight(y: Var, alpha: float) -> Var | float:
    return 1.0 if alpha < 0 else 1 - alpha + (2 * alpha - 1) * y


def _power(x: Var, exponent: float) -> Var | float:
    simple = {0: 1.0, 1: x, 2: x * x}.get(exponent)
    return jt.pow(x, constant(exponent, x)) if simple is None else simple


def sigmoid_focal_loss(logits: Var, targets: Var, alpha: float = 0.25, gamma: float = 2.0) -> Var:
    return _Focal.apply(logits, targets.detach(), float(alpha), float(gamma))


def cross_entropy(logits: Var, labels: Var | np.ndarray, ignore_index: int = -100) -> Var:
    values = labels.numpy() if isinstance(labels, jt.Var) else np.asarray(labels)
    counted = values != ignore_index
    wrong = counted & ((values < 0) | (values >= logits.shape[1]))
    if wrong.any():
        raise IndexError(
            f"Invalid value for `labels`. Expected 0 to {logits.shape[1] - 1}. "
            f"Received {values[wrong][0]}."
        )
    column = jt.array(values.astype(np.int32).reshape(-1, 1))
    slots = jt.array(np.arange(logits.shape[1], dtype=np.int32))
    zero = constant(0, logits)
    if len(values) == 0:
        return sum(logits, 1)
    picked = sum(select(column == slots, log_softmax(logits, 1), zero), 1)
    return select(jt.array(counted), -picked, zero)


def smooth_l1(x: Var, y: Var, beta: float = 1.0) -> Var:
    difference = x - y
    one, zero = constant(1, x), constant(0, x)
    sign = select(difference > 0, one, select(difference < 0, -one, zero)).detach()
    distance = difference * sign
    if beta == 0:
        return distance
    # With `reach` constant the gradient is reach / beta: below beta the distance, else 1.
    limit = constant(beta, x)
    reach = select(distance < limit, distance, limit).detach()
    return reach * (distance - 0.5 * reach) / limit
