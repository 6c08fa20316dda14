"""Names in messages: help with misspelt ones, and long ones cut."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """A clause such as " Did you mean 'depth'?", or nothing when no name is close."""
    if len(name) > 200:
        return ""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def cut(text: str, limit: int) -> str:
    """``text``, its middle left out where it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
