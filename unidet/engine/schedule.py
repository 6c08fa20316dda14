"""Learning-rate schedules as pure functions of the step.

A schedule is a scale: each parameter group's own rate is multiplied by it. Steps are optimizer
steps counted from 0; the scale of step ``s`` is the one that step ``s`` is taken with.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from unidet.config import ScheduleConfig
from unidet.config.measured import is_measured


@dataclass(frozen=True)
class Span:
    """Length of a run.

    Attributes:
        total: optimizer steps of the whole run.
        per_epoch: optimizer steps of one epoch.
    """

    total: int
    per_epoch: int


def warmup_steps(schedule: ScheduleConfig, span: Span) -> int:
    """Steps of warm-up: as given, or the share ``warmup_ratio`` of the run, rounded up."""
    if schedule.warmup_ratio:
        return math.ceil(schedule.warmup_ratio * span.total)
    return schedule.warmup_steps


def scale(schedule: ScheduleConfig, step: int, span: Span) -> float:
    """Scale of one step, without the part of ``plateau`` that depends on results.

    Warm-up rises linearly from ``warmup_start`` and multiplies the schedule. Step and multistep
    follow the epochs of the run; cosine and linear run from the end of the warm-up to the last
    step; one-cycle covers all steps (Smith and Topin 2018, in torch's two-phase cosine form).

    Args:
        schedule: the schedule.
        step: optimizer step, from 0.
        span: length of the run.
    """
    warm = warmup_steps(schedule, span)
    factor = 1.0
    if step < warm:
        factor = schedule.warmup_start + (1 - schedule.warmup_start) * step / warm
    return factor * _shape(schedule, step, warm, span)


def _shape(schedule: ScheduleConfig, step: int, warm: int, span: Span) -> float:
    if schedule.kind == "step":
        return schedule.gamma ** (step // span.per_epoch // schedule.step_size)
    if schedule.kind == "multistep":
        return schedule.gamma ** bisect_right(schedule.milestones, step // span.per_epoch)
    if schedule.kind == "onecycle":
        return _one_cycle(schedule, step, span.total)
    progress = min(max(step - warm, 0) / max(span.total - warm, 1), 1.0)
    if schedule.kind == "cosine":
        return _blend(1.0, schedule.min_scale, (1 - math.cos(math.pi * progress)) / 2)
    if schedule.kind == "linear":
        return _blend(1.0, schedule.min_scale, progress)
    return 1.0


def _one_cycle(schedule: ScheduleConfig, step: int, total: int) -> float:
    first = 1 / schedule.start_divisor
    last = first / schedule.final_divisor
    peak = schedule.rise * total - 1
    if step <= peak:
        return _blend(first, 1.0, _half_cosine(step / peak if peak > 0 else 1.0))
    fall = total - 1 - peak
    return _blend(1.0, last, _half_cosine(min((step - peak) / fall, 1.0) if fall > 0 else 1.0))


def _half_cosine(progress: float) -> float:
    return (1 - math.cos(math.pi * progress)) / 2


def _blend(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress


@dataclass
class Plateau:
    """Drops the scale when a watched value stops improving (torch's ReduceLROnPlateau).

    Attributes:
        schedule: mode, patience, threshold, gamma and min_scale are used.
        scale: current factor.
        best: best value so far, None before the first.
        bad: values in a row without progress.
    """

    schedule: ScheduleConfig
    scale: float = 1.0
    best: float | None = None
    bad: int = 0

    def update(self, value: float) -> bool:
        """Takes the newest value and returns whether the scale dropped.

        A precision or recall of -1 says that there was nothing to find: it counts for nothing.
        """
        maximise = self.schedule.mode == "max"
        if math.isfinite(value) and not is_measured(value, maximise=maximise):
            return False
        if self._improves(value):
            self.best, self.bad = value, 0
            return False
        self.bad += 1
        if self.bad <= self.schedule.patience:
            return False
        self.bad = 0
        before = self.scale
        self.scale = max(self.scale * self.schedule.gamma, self.schedule.min_scale)
        return self.scale < before

    def _improves(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        margin = abs(self.best) * self.schedule.threshold
        if self.schedule.mode == "min":
            return value < self.best - margin
        return value > self.best + margin

    def state(self) -> dict[str, float | int | None]:
        """What :meth:`restore` needs."""
        return {"scale": self.scale, "best": self.best, "bad": self.bad}

    def restore(self, state: dict[str, float | int | None]) -> None:
        """Continues from an earlier :meth:`state`."""
        self.scale = float(state["scale"] or 0.0)
        self.best = None if state["best"] is None else float(state["best"])
        self.bad = int(state["bad"] or 0)
