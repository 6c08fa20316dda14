"""The range test finds the fall of a loss whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.engine.divergence import Diverged, DivergenceWatch
from unidet.engine.lr_find import analyse, smoothed, sweep
from unidet.errors import UserError


def test_sweep_is_geometric() -> None:
    rates = sweep(1e-6, 1e-2, 41)
    assert rates[0] == pytest.approx(1e-6) and rates[-1] == pytest.approx(1e-2)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10**0.1)
    for low, high, steps in ((0, 1, 20), (1, 1, 20), (1e-3, float("inf"), 20), (1e-3, 1, 9)):
        with pytest.raises(UserError, match="Expected"):
            sweep(low, high, steps)


def test_smoothing_is_unbiased() -> None:
    np.testing.assert_allclose(smoothed(np.full(20, 3.0)), 3.0)
    assert smoothed(np.array([1.0, 2.0]))[1] == pytest.approx((0.9 * 0.1 + 0.2) / 0.19)


def test_the_steepest_fall_is_suggested() -> None:
    rates = sweep(1e-6, 1e-1, 201)
    # A fall centred at 1e-4, then a rise.
    losses = 2 - 1.5 / (1 + np.exp(-4 * np.log10(rates / 1e-4))) + (rates / 3e-2) ** 4
    result = analyse(rates, losses, broke=True)
    assert result.suggestion is not None
    # The average lags by its own length: 9 of 40 steps a decade.
    assert 1e-4 <= result.suggestion <= 3e-4
    assert result.broke_at == pytest.approx(1e-1)


def test_no_fall_gives_no_suggestion() -> None:
    result = analyse(sweep(1e-6, 1, 20), np.linspace(1, 2, 20), broke=False)
    assert result.suggestion is None and result.broke_at is None
    with pytest.raises(UserError, match="broke after 3 steps"):
        analyse(np.array([1.0, 2.0, 3.0]), np.ones(3), broke=True)


def test_watch_ignores_noise_and_sees_an_explosion() -> None:
    rng = np.random.default_rng(0)
    watch = DivergenceWatch(100.0)
    for value in 1 + 0.5 * rng.random(300):
        watch.check({"loss": float(value)})
    watch.check({"loss": 300.0})  # one spike: the average stays below a hundredfold
    with pytest.raises(Diverged, match="has grown from"):
        for _ in range(30):
            watch.check({"loss": 660.0})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_watch_sees_any_part(bad: float) -> None:
    with pytest.raises(Diverged, match="grad_norm"):
        DivergenceWatch(100.0).check({"loss": 1.0, "grad_norm": bad})


def test_watch_continues_from_its_state() -> None:
    watch, other = DivergenceWatch(2.0), DivergenceWatch(2.0)
    assert other.state() == {"smooth": None, "lowest": None, "count": 0}
    for _ in range(30):
        watch.check({"loss": 20.0})
    other.restore(watch.state())
    assert other == watch
    with pytest.raises(Diverged):
        other.check({"loss": 1e4})
