"""Scores of an open vocabulary: class probabilities, the class prior, the proposal's score."""

from __future__ import annotations

import numpy as np

from unidet.models.boxes.scores import sigmoid


def prior_weights(counts: np.ndarray, gamma: float) -> np.ndarray:
    """What the probabilities of each class are multiplied by: rare classes gain.

    ``n ** -gamma`` over its mean. A class that was never detected counts as detected once: with
    0 its weight would be infinite and all others zero, as in the official code.

    Args:
        counts: ``(K,)`` detections of each class in a first pass.
        gamma: 0 or more; 0 weighs all alike.

    Returns:
        ``(K,)`` float32 with mean 1.
    """
    weights = np.maximum(np.asarray(counts, np.float64), 1) ** -gamma
    return (weights / weights.mean()).astype(np.float32)


def open_scores(
    logits: np.ndarray,
    proposal_scores: np.ndarray | None = None,
    *,
    beta: float | None = None,
    gamma: float | None = None,
    class_prior: np.ndarray | None = None,
) -> np.ndarray:
    """Scores of each proposal and class (Wang et al. 2023, section 3.3).

    ``(sigmoid(logit) * weight) ** beta * proposal_score ** (1 - beta)``. A calibrated score may
    exceed 1.

    Args:
        logits: ``(R, K + 1)``; the last column, the background, is never used.
        proposal_scores: ``(R,)``, needed with ``beta``.
        beta: None: the probability alone.
        gamma: of :func:`prior_weights`; None: no calibration.
        class_prior: ``(K,)`` counts, needed with ``gamma``.

    Returns:
        ``(R, K + 1)`` float32.
    """
    scores = sigmoid(logits)
    if gamma is not None and class_prior is not None:
        weights = np.append(prior_weights(class_prior, gamma), np.float32(1))  # 1: the background
        scores = scores * weights
    if beta is not None and proposal_scores is not None:
        quality = np.maximum(proposal_scores, 0).astype(np.float32)[:, None]
        scores = scores ** np.float32(beta) * quality ** np.float32(1 - beta)
    return scores.astype(np.float32)
