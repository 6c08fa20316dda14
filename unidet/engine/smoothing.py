"""Moving average for the plots of loss curves."""

from __future__ import annotations

import math


class MovingAverage:
    """Exponential moving average: each earlier value weighs ``factor`` times as much as the next.

    Divided by the sum of the weights, so that the first value does not count for more than its
    share; TensorBoard's slider does the same. Values that are not finite leave it as it was.

    Args:
        factor: from 0, which follows every value, to below 1.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._total = self._weight = 0.0

    def add(self, value: float) -> float:
        """Takes the next value and returns the average, NaN before the first finite value."""
        if math.isfinite(value):
            self._total = self.factor * self._total + value
            self._weight = self.factor * self._weight + 1
        return self._total / self._weight if self._weight else math.nan
