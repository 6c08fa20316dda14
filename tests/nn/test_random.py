"""Streams depend on their arguments and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.backends import random
from unidet.backends.nn import initial


def test_same_place_same_numbers():
    first = random.stream(1, "augment", 2, 3).random(4)
    random.stream(1, "other").random(100)
    np.random.seed(5)
    np.testing.assert_array_equal(random.stream(1, "augment", 2, 3).random(4), first)
    np.testing.assert_array_equal(
        random.stream(np.int64(1), "augment", np.int32(2), 3).random(4), first
    )


def test_numbers_never_change():
    np.testing.assert_array_equal(
        random.stream(0, "init", "conv.weight").integers(0, 1000, 4), [43, 473, 922, 666]
    )


def test_places_differ():
    places = [(0,), (1,), (0, 1), (0, "1"), (0, "a", "b"), (0, "ab"), (0, "a", 1), (-1,), (2**80,)]
    values = {tuple(random.stream(seed, *site).integers(0, 2**60, 2)) for seed, *site in places}
    assert len(values) == len(places)


def test_site_is_checked():
    with pytest.raises(TypeError, match=r"site.*1\.5"):
        random.stream(0, 1.5)


def test_initial_distributions():
    shape = (64, 32, 3, 3)
    draw = random.stream(0)
    assert initial.fans(shape) == (288, 576)
    assert initial.kaiming_normal(draw, shape).std() == pytest.approx((2 / 576) ** 0.5, rel=0.03)
    assert initial.kaiming_normal(draw, shape, "fan_in").std() == pytest.approx(
        (2 / 288) ** 0.5, rel=0.03
    )
    assert initial.kaiming_uniform(draw, shape, 1).std() == pytest.approx(
        (1 / 288) ** 0.5, rel=0.03
    )
    assert initial.xavier_uniform(draw, shape).std() == pytest.approx((2 / 864) ** 0.5, rel=0.03)
    assert (
        initial.uniform(draw, shape, 0.5).dtype == initial.normal(draw, shape).dtype == np.float32
    )
    with pytest.raises(ValueError, match="mode"):
        initial.kaiming_normal(draw, shape, "fan_avg")
