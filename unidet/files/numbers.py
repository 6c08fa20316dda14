"""Which values of a file count as an id, a number, a flag or a text. One rule for every reader."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

_INT64 = 2**63
_SURROGATE = re.compile("[\ud800-\udfff]")


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


def is_size(value: Any) -> TypeGuard[float]:
    """True for a whole number of pixels from 0 to 2**31 - 1; 640.0 counts, as some tools write."""
    return is_number(value) and 0 <= value < 2**31 and value == int(value)


def is_text(value: Any) -> TypeGuard[str]:
    """True for a text that UTF-8 holds (no lone surrogate) and that has no NUL."""
    return isinstance(value, str) and "\0" not in value and not _SURROGATE.search(value)
