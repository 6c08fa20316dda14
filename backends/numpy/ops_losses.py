"""Activations and losses on ``numpy.ndarray``. Meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

import numpy as np


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -softplus(-x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of a negative number alone, so that nothing overflows.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _shifted(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``x`` less its largest value along ``axis``, that value, and ``logsumexp`` of the rest."""
    top = np.max(x, axis=axis, keepdims=True)
    # An infinite top would give inf - inf.
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    with np.errstate(divide="ignore", over="ignore"):
        rest = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True))
    return x - top, top, rest


def logsumexp(x: np.ndarray, axis: int, keepdims: bool = False) -> np.ndarray:
    _, top, rest = _shifted(x, axis)
    result = rest + top
    return result if keepdims else np.squeeze(result, axis)


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    # Not x - logsumexp(x), which would lose the digits of a large top.
    shifted, _, rest = _shifted(x, axis)
    with np.errstate(invalid="ignore"):
        return shifted - rest


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(log_softmax(x, axis))


def binary_cross_entropy_with_logits(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -(y * log_sigmoid(x) + (1 - y) * log_sigmoid(-x))


def cross_entropy(logits: np.ndarray, labels: np.ndarray, ignore_index: int = -100) -> np.ndarray:
    labels = np.asarray(labels).astype(np.int64)
    losses = np.zeros(len(logits), logits.dtype)
    for row, label in enumerate(labels):
        if label == ignore_index:
            continue
        if not 0 <= label < logits.shape[1]:
            raise IndexError(
                f"Invalid value for `labels`. Expected 0 to {logits.shape[1] - 1}. "
                f"Received {label}."
            )
        losses[row] = -log_softmax(logits[row], 0)[label]
    return losses


def sigmoid_focal_loss(
    logits: np.ndarray, targets: np.ndarray, alpha: float = 0.25, gamma: float = 2.0
) -> np.ndarray:
    # sigmoid(-x) instead of 1 - sigmoid(x) keeps small numbers exact.
    miss = sigmoid(-logits) * targets + sigmoid(logits) * (1 - targets)
    loss = miss**gamma * binary_cross_entropy_with_logits(logits, targets)
    return loss if alpha < 0 else loss * (alpha * targets + (1 - alpha) * (1 - targets))


def smooth_l1(x: np.ndarray, y: np.ndarray, beta: float = 1.0) -> np.ndarray:
    distance = np.abs(x - y)
    if beta == 0:
        return distance
    return np.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)
