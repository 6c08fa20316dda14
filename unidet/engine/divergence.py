"""Detection of divergence: a loss that is not a finite number, or that explodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Factor of the moving average that is watched.
SMOOTHING = 0.9
#: Steps before growth is judged: the first losses of a fresh head swing.
SETTLING_STEPS = 20
#: Growth below this loss is no explosion, whatever the factor.
FLOOR = 10.0


class Diverged(Exception):
    """The loss of a step says that going on is pointless; the message tells why."""


@dataclass
class DivergenceWatch:
    """Follows the total loss of each step.

    Attributes:
        max_growth: largest smoothed loss over the lowest smoothed loss.
        smooth: moving average, None before the first step.
        lowest: lowest moving average since ``SETTLING_STEPS``.
        count: steps seen.
    """

    max_growth: float
    smooth: float | None = None
    lowest: float = math.inf
    count: int = 0

    def check(self, losses: Mapping[str, float]) -> None:
        """Takes the losses of one step, before its update.

        Args:
            losses: value of each part, ``loss`` their sum, ``grad_norm`` where it is known.

        Raises:
            Diverged: a value is NaN or infinite, or the loss has exploded.
        """
        if not all(math.isfinite(value) for value in losses.values()):
            parts = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise Diverged(f"the loss is not finite ({parts})")
        loss = losses["loss"]
        smooth = loss if self.smooth is None else SMOOTHING * self.smooth + (1 - SMOOTHING) * loss
        self.smooth = smooth
        self.count += 1
        if self.count < SETTLING_STEPS:
            return
        self.lowest = min(self.lowest, smooth)
        if smooth > max(self.max_growth * self.lowest, FLOOR):
            raise Diverged(
                f"the smoothed loss has grown from {self.lowest:.4g} to {smooth:.4g}, more than "
                f"{self.max_growth:g} times (train.max_loss_growth)"
            )

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs, in JSON values."""
        lowest = None if math.isinf(self.lowest) else self.lowest
        return {"smooth": self.smooth, "lowest": lowest, "count": self.count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from an earlier :meth:`state`."""
        self.smooth, self.count = state["smooth"], state["count"]
        self.lowest = math.inf if state["lowest"] is None else state["lowest"]
