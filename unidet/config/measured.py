"""What the names of measured values say about them."""

from __future__ import annotations

import math

#: Values whose names hold one of these are better when smaller.
_SMALL = ("loss", "error", "distance")


def smaller_is_better(name: str) -> bool:
    """Whether less of a measured value is better, as of a loss; of precision and recall more is."""
    return any(word in name for word in _SMALL)


def is_measured(value: float, *, maximise: bool) -> bool:
    """Whether a value says anything.

    Precision and recall are -1 where there is no object to find; NaN and infinity are no values.
    """
    return math.isfinite(value) and not (maximise and value < 0)
