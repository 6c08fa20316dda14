"""What the names of measured values say about them."""

from __future__ import annotations

#: Values whose names hold one of these are better when smaller.
_SMALL = ("loss", "error", "distance")


def smaller_is_better(name: str) -> bool:
    """Whether less of a measured value is better, as of a loss; of precision and recall more is."""
    return any(word in name for word in _SMALL)
