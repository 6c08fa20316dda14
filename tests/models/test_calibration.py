"""Scores of an open vocabulary, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.models.unidetector.calibration import open_scores, prior_weights

LOGITS = np.array([[2.0, -1.0, 0.5, 0.0], [-3.0, 4.0, 0.0, 0.0]], np.float32)
CLASSES = 3
PROBABILITIES = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
QUALITY = np.array([0.81, 0.16], np.float32)


def test_weights_of_the_prior() -> None:
    """100 ** -0.5 = 0.1, 25 ** -0.5 = 0.2, 1 ** -0.5 = 1; their mean is 13 / 30."""
    found = prior_weights(np.array([100, 25, 1]), 0.5)
    np.testing.assert_allclose(found, np.array([0.1, 0.2, 1.0]) * 30 / 13, rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("gamma", [0.3, 0.6, 2.0])
def test_rare_classes_gain_and_the_mean_stays(gamma: float) -> None:
    counts = np.array([3, 70, 15, 9000, 1])
    found = prior_weights(counts, gamma)
    assert found.mean() == pytest.approx(1, rel=1e-6)
    assert (np.diff(found[np.argsort(counts)]) < 0).all()


def test_a_class_that_was_never_detected_counts_as_detected_once() -> None:
    """Its weight would be infinite otherwise, and that of all others 0."""
    found = prior_weights(np.array([0, 1, 16, 0]), 0.5)
    np.testing.assert_array_equal(found, prior_weights(np.array([1, 1, 16, 1]), 0.5))
    assert np.isfinite(found).all() and (found > 0).all()


def test_gamma_0_changes_nothing() -> None:
    prior = np.array([0, 5, 900])
    np.testing.assert_array_equal(prior_weights(prior, 0.0), np.ones(CLASSES, np.float32))
    plain = open_scores(LOGITS)
    np.testing.assert_array_equal(open_scores(LOGITS, gamma=0.0, class_prior=prior), plain)
    np.testing.assert_allclose(plain, PROBABILITIES, rtol=1e-6)


def test_the_whole_formula() -> None:
    prior = np.array([0, 5, 900])
    found = open_scores(LOGITS, QUALITY, beta=0.3, gamma=0.6, class_prior=prior)
    raw = np.array([1.0, 5.0, 900.0]) ** -0.6
    weights = np.append(raw / raw.mean(), 1)  # the background has no prior
    expected = (PROBABILITIES * weights) ** 0.3 * QUALITY[:, None].astype(float) ** 0.7
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float32 and found.shape == LOGITS.shape


def test_limits_of_beta() -> None:
    """1: the class alone; 0: the proposal alone."""
    np.testing.assert_allclose(open_scores(LOGITS, QUALITY, beta=1.0), PROBABILITIES, rtol=1e-6)
    alone = open_scores(LOGITS, QUALITY, beta=0.0)
    np.testing.assert_allclose(alone, np.tile(QUALITY[:, None], (1, 4)), rtol=1e-6)
    np.testing.assert_array_equal(open_scores(LOGITS, QUALITY), open_scores(LOGITS))


def test_a_proposal_without_worth_has_no_score() -> None:
    """Scores below 0 have no root; what other programs write must not become NaN."""
    found = open_scores(LOGITS, np.array([-0.1, 0.0], np.float32), beta=0.3)
    np.testing.assert_array_equal(found, np.zeros_like(LOGITS))
