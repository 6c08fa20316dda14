"""Probabilities from logits, on the host."""

from __future__ import annotations

import numpy as np


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Probabilities, float32, without overflow on either side."""
    small = np.exp(-np.abs(values))
    return (np.where(values >= 0, 1.0, small) / (1 + small)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, float32; rows with a NaN are NaN."""
    with np.errstate(invalid="ignore"):
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
        return (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
