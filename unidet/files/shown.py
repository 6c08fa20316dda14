"""How a value from a file or an option is shown in an error message: short, whatever it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from unidet.backends.names import cut

__all__ = ["cut", "printable", "shown"]

#: Characters of the longest text that :func:`shown` returns.
LONGEST = 120
_ITEMS, _DEPTH, _BITS = 4, 3, 256


def shown(value: Any, limit: int = LONGEST) -> str:
    """``repr`` of a value, cut before it is built.

    Long texts, lists and integers are shortened and deep ones are not followed, so neither a list
    of aliases nor an integer of a million digits costs time or memory.

    Args:
        value: anything.
        limit: characters of the result.
    """
    text = _show(value, limit, _DEPTH)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def printable(text: str) -> str:
    """``text`` with control characters and lone surrogates written as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _show(value: Any, limit: int, depth: int) -> str:
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, int):
        bits = value.bit_length()
        return repr(int(value)) if bits <= _BITS else f"an integer of {bits} bits"
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= limit else repr(value[: max(limit - 5, 8)]) + "..."
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return _show_items(value, limit, depth)
    if isinstance(value, float):
        return repr(value)
    try:
        return repr(value)
    except Exception:
        return f"a {type(value).__name__}"


def _show_items(value: Any, limit: int, depth: int) -> str:
    left, right = ("[", "]") if isinstance(value, list) else ("(", ")")
    if isinstance(value, (Mapping, set, frozenset)):
        left, right = "{", "}"
    if not value:
        return left + right
    if depth == 0:
        return f"{left}...{right}"
    share = max(limit // 2, 16)
    parts = []
    entries = value.items() if isinstance(value, Mapping) else value
    for entry in itertools.islice(iter(entries), _ITEMS):
        if isinstance(value, Mapping):
            key, item = entry
            parts.append(f"{_show(key, share, depth - 1)}: {_show(item, share, depth - 1)}")
        else:
            parts.append(_show(entry, share, depth - 1))
    if len(value) > _ITEMS:
        parts.append(f"... {len(value)} in all")
    return f"{left}{', '.join(parts)}{right}"
