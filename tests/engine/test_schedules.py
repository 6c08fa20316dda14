"""Schedules against closed forms and against torch's own schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from unidet.config import ScheduleConfig
from unidet.engine.schedule import Plateau, Span, scale, warmup_steps

SPAN = Span(total=40, per_epoch=10)


def scales(schedule: ScheduleConfig, span: Span = SPAN) -> list[float]:
    return [scale(schedule, step, span) for step in range(span.total)]


def torch_scales(
    make: Callable[[Any, Any], Any], span: Span = SPAN, per_epoch: bool = False
) -> list[float]:
    """What torch's scheduler gives for a rate of 1."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    got = []
    for step in range(span.total):
        got.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not per_epoch or (step + 1) % span.per_epoch == 0:
            scheduler.step()
    return got


def test_constant_with_warmup() -> None:
    got = scales(ScheduleConfig(warmup_steps=4, warmup_start=0.2))
    assert got[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(got[4:]) == {1.0}


@pytest.mark.parametrize(("ratio", "steps"), [(0.1, 4), (0.11, 5), (0.0, 0), (1.0, 40)])
def test_warmup_ratio_rounds_up(ratio: float, steps: int) -> None:
    assert warmup_steps(ScheduleConfig(warmup_ratio=ratio), SPAN) == steps


def test_multistep_drops_at_the_start_of_its_epochs() -> None:
    got = scales(ScheduleConfig(kind="multistep", milestones=(1, 3), gamma=0.1))
    assert got == pytest.approx([1.0] * 10 + [0.1] * 20 + [0.01] * 10)
    expected = torch_scales(lambda s, o: s.MultiStepLR(o, [1, 3], 0.1), per_epoch=True)
    assert got == pytest.approx(expected, rel=1e-12)


def test_step_matches_torch() -> None:
    got = scales(ScheduleConfig(kind="step", step_size=2, gamma=0.5))
    expected = torch_scales(lambda s, o: s.StepLR(o, 2, 0.5), per_epoch=True)
    assert got == pytest.approx(expected, rel=1e-12)
    assert got[0] == 1.0 and got[-1] == 0.5


def test_cosine_matches_torch_and_its_closed_form() -> None:
    got = scales(ScheduleConfig(kind="cosine", min_scale=0.1))
    expected = torch_scales(lambda s, o: s.CosineAnnealingLR(o, SPAN.total, eta_min=0.1))
    assert got == pytest.approx(expected, rel=1e-9)
    assert got[20] == pytest.approx(0.55)


def test_cosine_after_warmup_spans_the_rest() -> None:
    got = scales(ScheduleConfig(kind="cosine", warmup_steps=10, warmup_start=0.0))
    assert got[5] == pytest.approx(0.5)
    assert got[10] == 1.0
    assert got[25] == pytest.approx(0.5)
    assert got[39] == pytest.approx((1 + math.cos(math.pi * 29 / 30)) / 2)


def test_linear_matches_torch() -> None:
    got = scales(ScheduleConfig(kind="linear", min_scale=0.25))
    expected = torch_scales(lambda s, o: s.LinearLR(o, 1.0, 0.25, total_iters=SPAN.total))
    assert got == pytest.approx(expected, rel=1e-9)


def test_linear_with_warmup_ratio_is_a_triangle() -> None:
    got = scales(ScheduleConfig(kind="linear", warmup_ratio=0.25, warmup_start=0.0))
    assert got[0] == 0.0 and got[5] == 0.5 and got[10] == 1.0
    assert got[25] == pytest.approx(0.5)


@pytest.mark.parametrize("total", [1, 2, 3, 10, 40, 1000])
@pytest.mark.parametrize("rise", [0.1, 0.3, 1.0])
def test_one_cycle_matches_torch(total: int, rise: float) -> None:
    span = Span(total, 10)
    got = scales(ScheduleConfig(kind="onecycle", rise=rise), span)
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in got)
    if rise * total <= 1 or rise == 1.0:
        return  # torch divides by zero there
    expected = torch_scales(
        lambda s, o: s.OneCycleLR(o, 1.0, total_steps=total, pct_start=rise, cycle_momentum=False),
        span,
    )
    assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_matches_torch(mode: str) -> None:
    torch = pytest.importorskip("torch")
    values = [5.0, 4.0, 4.0, 4.1, 3.99999, 4.2, 3.0, 3.0, 3.0, 3.0, 3.0, 3.1, 3.0, 2.0]
    values = values if mode == "min" else [-v for v in values]
    schedule = ScheduleConfig(kind="plateau", patience=2, gamma=0.1, mode=mode, threshold=1e-4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.1, patience=2, threshold=1e-4
    )
    # torch's relative margin changes sign with the value; ours is a share of its size.
    plateau = Plateau(schedule)
    if mode == "max":
        values = [v + 10 for v in values]
    for value in values:
        theirs.step(value)
        plateau.update(value)
        assert plateau.scale == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
    assert plateau.scale < 0.2


def test_plateau_continues_from_its_state() -> None:
    schedule = ScheduleConfig(kind="plateau", patience=1, gamma=0.5, min_scale=0.3)
    one, other = Plateau(schedule), Plateau(schedule)
    for value in (1.0, 1.0):
        one.update(value)
    other.restore(one.state())
    assert [one.update(1.0), one.scale] == [other.update(1.0), other.scale] == [True, 0.5]
    for _ in range(2):
        one.update(1.0)
    assert one.scale == 0.3
    assert [one.update(math.nan), one.update(math.nan)] == [False, False]


def test_plateau_takes_minus_one_for_no_value() -> None:
    plateau = Plateau(ScheduleConfig(kind="plateau", patience=1, gamma=0.5, mode="max"))
    assert not any(plateau.update(-1.0) for _ in range(5))
    assert (plateau.best, plateau.bad, plateau.scale) == (None, 0, 1.0)
    found = [plateau.update(value) for value in (0.0, -1.0, 0.0, -1.0, 0.0)]
    assert found == [False, False, False, False, True] and plateau.best == 0.0
    losses = Plateau(ScheduleConfig(kind="plateau", patience=1, gamma=0.5, mode="min"))
    losses.update(-1.0)
    assert losses.best == -1.0
