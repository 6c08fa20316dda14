"""Measures of difference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unidet.certificate import Thresholds
from unidet.certificate.differences import (
    gradient_difference,
    match_detections,
    output_tolerance,
    sha256,
    tensor_difference,
)
from unidet.structures import Detections

LIMITS = Thresholds()


def _found(rows: list[tuple[float, float, float, float, float, int]]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int)
    )


A = (10.0, 10.0, 60.0, 60.0, 0.9, 1)
B = (30.0, 20.0, 90.0, 80.0, 0.6, 0)
C = (5.0, 5.0, 25.0, 25.0, 0.3, 2)


def test_sha256_depends_on_values_and_not_on_layout() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert sha256(array) == sha256(np.asfortranarray(array))
    assert sha256(array) == sha256(array.astype(">f4"))
    changed = array.copy()
    changed[1, 1] = np.nextafter(changed[1, 1], 9, dtype=np.float32)
    assert sha256(array) != sha256(changed)
    assert sha256(np.zeros((), np.int64)) == sha256(np.zeros(1, np.int64))


def test_largest_and_mean_difference() -> None:
    left = np.array([1.0, -4.0, 2.0], np.float32)
    found = tensor_difference("x", left, left + np.float32([0, 0.5, 0.25]), 0.1, True)
    assert (found.max_abs, found.mean_abs, found.scale) == (0.5, 0.25, 4.0)
    assert found.relative == 0.125
    assert found.tolerance == pytest.approx(0.4)
    assert not found.ok
    assert tensor_difference("x", left, left + 0.5, 0.6, False).ok


def test_shapes_and_nan_are_told() -> None:
    left = np.array([1.0, np.nan, np.inf], np.float32)
    assert tensor_difference("x", left, left.copy(), 0, False).ok
    lost = tensor_difference("x", left, np.array([1, 0, np.inf], np.float32), 1e9, False)
    assert not lost.ok
    assert "NaN" in lost.note
    other = tensor_difference("x", left, left[:2], 1e9, False)
    assert not other.ok
    assert "(2,) in place of (3,)" in other.note
    assert tensor_difference("x", left[:0], left[:0], 0, True).ok


def test_integers_have_to_be_equal() -> None:
    left = np.array([1, 2, 3])
    assert tensor_difference("x", left, left.copy(), 5, False).ok
    off = tensor_difference("x", left, np.array([1, 2, 4]), 5, False)
    assert not off.ok
    assert "33.33%" in off.note


def test_output_tolerances() -> None:
    small, large = np.ones(3, np.float32), np.full(3, 50, np.float32)
    assert output_tolerance("cls_logits", small, LIMITS) == pytest.approx(1e-4)
    assert output_tolerance("cls_logits", large, LIMITS) == pytest.approx(5e-4)
    assert output_tolerance("boxes_xyxy", large, LIMITS) == 0.01


def test_gradient_direction_and_length() -> None:
    left = np.array([3.0, 4.0])
    same = gradient_difference("w", left, left * (1 + 1e-5), 5.0, LIMITS)
    assert same.ok
    assert same.cosine == pytest.approx(1)
    longer = gradient_difference("w", left, left * 2, 5.0, LIMITS)
    assert not longer.ok
    assert longer.norm_difference == pytest.approx(1)
    turned = gradient_difference("w", left, np.array([4.0, 3.0]), 5.0, LIMITS)
    assert not turned.ok
    assert turned.cosine == pytest.approx(24 / 25)
    assert gradient_difference("w", left * 0, left * 0, 5.0, LIMITS).ok
    assert not gradient_difference("w", left, left * 0, 5.0, LIMITS).ok
    assert not gradient_difference("w", left, left * np.nan, 5.0, LIMITS).ok


def test_rounding_noise_is_no_gradient() -> None:
    noise, other = np.array([1e-9, -2e-9]), np.array([-1e-9, 1e-9])
    found = gradient_difference("bias", noise, other, 5.0, LIMITS)
    assert found.ok
    assert found.negligible
    assert not gradient_difference("bias", noise, other, 1e-6, LIMITS).ok


def test_order_of_detections_does_not_matter() -> None:
    found = match_detections(0, _found([A, B, C]), _found([C, A, B]), LIMITS)
    assert found.ok
    assert found.matched == 3
    assert (found.max_box, found.max_score, found.tied) == (0, 0, 0)


def test_small_shifts_pass_and_large_ones_do_not() -> None:
    def moved(by: float) -> Detections:
        return _found([(A[0] + by, *A[1:])])

    assert match_detections(0, _found([A]), moved(0.005), LIMITS).ok
    far = match_detections(0, _found([A]), moved(0.04), LIMITS)
    assert far.matched == 1
    assert far.max_box == pytest.approx(0.04, abs=1e-4)
    assert not far.ok
    lost = match_detections(0, _found([A]), moved(5.0), Thresholds(scores=1e-9))
    assert lost.matched == 0


def test_large_boxes_match_by_overlap() -> None:
    large = (0.0, 0.0, 1000.0, 1000.0, 0.9, 1)
    shifted = (0.0, 0.0, 1000.5, 1000.0, 0.9, 1)
    found = match_detections(0, _found([large]), _found([shifted]), LIMITS)
    assert found.matched == 1
    assert not found.ok


def test_labels_scores_and_counts_have_to_agree() -> None:
    other_label = _found([(*A[:5], 2), B])
    assert not match_detections(0, _found([A, B]), other_label, LIMITS).ok
    other_score = _found([(*A[:4], 0.9002, 1)])
    assert not match_detections(0, _found([A]), other_score, LIMITS).ok
    assert not match_detections(0, _found([A, B]), _found([A]), LIMITS).ok
    assert not match_detections(0, _found([A]), _found([]), LIMITS).ok
    assert match_detections(0, _found([]), _found([]), LIMITS).ok


def test_ties_at_the_cut_are_excused() -> None:
    last, tied = (*B[:4], 0.3, 0), C
    found = match_detections(0, _found([A, last]), _found([A, tied]), LIMITS)
    assert found.ok
    assert found.matched == 1
    assert found.tied == 2
    # The same exchange above the cut is a fault.
    low = (70.0, 70.0, 80.0, 80.0, 0.1, 1)
    assert not match_detections(0, _found([A, last, low]), _found([A, tied, low]), LIMITS).ok


def test_duplicates_are_paired_by_score() -> None:
    low, high = (*A[:4], 0.5, 1), A
    found = match_detections(0, _found([high, low]), _found([low, high]), LIMITS)
    assert found.matched == 2
    assert found.max_score == 0
    assert math.isclose(found.max_box, 0)
