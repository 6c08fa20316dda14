"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    words = [all(not row[i][:1].isdigit() and row[i] != "-" for row in rows[1:])
             for i in range(len(widths))]  # fmt: skip
    return "\n".join(
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(row, widths, words)
        ).rstrip()
        for row in rows
    )
