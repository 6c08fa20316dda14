"""Which values of a file count as an id, a number or a flag. One rule for every reader."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

_INT64 = 2**63


def is_id(value: Any) -> TypeGuard[int]:
    """True for an integer of 64 bits that is no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64


def is_number(value: Any) -> TypeGuard[float]:
    """True for an integer or a float that float64 holds and that is finite; no bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_flag(value: Any) -> TypeGuard[int]:
    """True for 0, 1, false and true, the values of ``iscrowd`` and its like."""
    return isinstance(value, (bool, int, float)) and value in (0, 1)
