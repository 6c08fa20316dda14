"""What became of every tensor when a checkpoint was mapped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unidet.files.shown import cut, printable

from .errors import StateMismatchError

#: Statuses, in the order in which a summary names them.
STATUSES = (
    "matched",
    "renamed",
    "reinitialised",
    "kept",
    "dropped",
    "missing",
    "unexpected",
    "mismatched",
)
#: Those that a strict load refuses.
PROBLEMS = ("missing", "unexpected", "mismatched")
_SHOWN = 6


@dataclass(frozen=True)
class TensorRow:
    """One tensor.

    Attributes:
        status: One of :data:`STATUSES`.
        source: Its name in the file, or None.
        target: Its name afterwards, or None.
        shape: Its shape (the file's where it has one).
        dtype: Its dtype.
        note: Why, where that is not plain.
    """

    status: str
    source: str | None
    target: str | None
    shape: tuple[int, ...]
    dtype: str
    note: str = ""


@dataclass
class TensorReport:
    """Every tensor of a checkpoint and what became of it.

    Attributes:
        title: What was done.
        rows: One for each tensor.
        notes: Remarks on the whole.
    """

    title: str
    rows: list[TensorRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        status: str,
        source: str | None,
        target: str | None,
        shape: tuple[int, ...],
        dtype: Any,
        note: str = "",
    ) -> None:
        """Appends a row."""
        self.rows.append(TensorRow(status, source, target, tuple(shape), str(dtype), note))

    def counts(self) -> dict[str, int]:
        """Number of tensors by status; every status is a key."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES}

    def with_status(self, *statuses: str) -> list[TensorRow]:
        """Rows of these statuses."""
        return [row for row in self.rows if row.status in statuses]

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, unexpected or of another shape."""
        return not self.with_status(*PROBLEMS)

    def require(self, source: str, *, hint: str = "") -> None:
        """Raises ``StateMismatchError`` unless :attr:`ok`; the line lists the culprits."""
        if self.ok:
            return
        parts = []
        for status in PROBLEMS:
            rows = self.with_status(status)
            if rows:
                parts.append(f"{len(rows)} {status}: {_names(rows)}")
        raise StateMismatchError(
            f"Invalid checkpoint {source}. Expected {self.title}. "
            f"Received {'; '.join(parts)}.{hint}"
        )

    def summary(self) -> str:
        """One line: how many tensors have each status."""
        parts = [f"{count} {status}" for status, count in self.counts().items() if count]
        return f"{self.title}: {', '.join(parts) or 'no tensors'}"

    def table(self) -> str:
        """All rows as aligned text, the summary above and the notes below."""
        header = ("status", "in the file", "here", "shape", "dtype", "note")
        lines = [header] + [
            (
                row.status,
                row.source or "-",
                row.target or "-",
                "x".join(map(str, row.shape)) or "scalar",
                row.dtype,
                row.note,
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        text = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
        return "\n".join([self.summary(), *text, *(f"note: {note}" for note in self.notes)])

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "title": self.title,
            "counts": self.counts(),
            "tensors": [{**asdict(row), "shape": list(row.shape)} for row in self.rows],
            "notes": list(self.notes),
        }


def _names(rows: list[TensorRow]) -> str:
    shown = []
    for row in rows[:_SHOWN]:
        name = row.source or row.target or ""
        shown.append(f"{name} ({row.note})" if row.note else name)
    return shortened(shown, len(rows))


def shortened(names: Sequence[str], count: int | None = None) -> str:
    """The first names of a list, and how many more there are.

    Args:
        names: Some of them, or all.
        count: Of all; by default that of ``names``.
    """
    more = (len(names) if count is None else count) - _SHOWN
    first = ", ".join(printable(cut(name, 200)) for name in names[:_SHOWN])
    return first + (f" and {more} more" if more > 0 else "")
