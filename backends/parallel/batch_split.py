"""Divisors of losses when one batch is computed in parts.

A step may compute its batch in parts: one for each rank, or one micro-batch after the other. Losses
are divided by counts, such as the positive anchors of the batch. For the gradients of the parts to
add up to that of the whole batch, each part is divided by the count of all parts. A loss therefore
asks :func:`mean_count` for its divisor. What is drawn at random for an image depends on its index
in the whole batch, :func:`image_index`, and not in the part. Outside of :func:`part` a batch is
whole, and both return what they are given. docs/loss_normalisation.md shows this step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

#: Adds a number up over all ranks.
Add = Callable[[float], float]


@dataclass(frozen=True)
class _Part:
    """What is known while a part is computed.

    Attributes:
        parts: of the whole, over all ranks.
        first: index of this part's first image.
        weight: 0 where the part stands in for nothing, else 1.
        totals: counts of all parts by key, where they are known ahead.
        add: sums a count over the ranks, where they are not.
        notes: takes the counts of this part, if they are to be known ahead.
    """

    parts: int = 1
    first: int = 0
    weight: float = 1.0
    totals: dict[str, float] | None = None
    add: Add | None = None
    notes: dict[str, float] | None = None


_WHOLE = _Part()
_current: ContextVar[_Part] = ContextVar("unidet_part", default=_WHOLE)


@contextmanager
def part(
    parts: int,
    first: int,
    *,
    weight: float = 1.0,
    totals: dict[str, float] | None = None,
    add: Add | None = None,
) -> Iterator[None]:
    """Inside the block, one part of a batch is computed.

    The losses of all parts then have the loss of the whole batch as their mean.

    Args:
        parts: how many there are, over all ranks.
        first: index of the part's first image in the whole batch.
        weight: 0 for a part whose images do not count.
        totals: counts of all parts by key, as :func:`counting` found them.
        add: sums a number over all ranks, which call it together; needed without ``totals``.
    """
    token = _current.set(_Part(parts, first, weight, totals, add))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def counting(notes: dict[str, float], first: int, weight: float = 1.0) -> Iterator[None]:
    """Inside the block, counts are only added to ``notes``, by key.

    Args:
        notes: where they go.
        first, weight: see :func:`part`.
    """
    token = _current.set(_Part(first=first, weight=weight, notes=notes))
    try:
        yield
    finally:
        _current.reset(token)


def mean_count(key: str, count: float, least: float = 0.0) -> float:
    """A count of the whole batch, divided by the number of its parts: what a loss is divided by.

    For a batch that is computed as a whole, this is ``max(count, least)``.

    Args:
        key: what is counted; each key is asked for once in a part, by all parts alike.
        count: of this part.
        least: lower bound of the whole batch's count, such as 1 against a division by 0.
    """
    now = _current.get()
    return max(_total(now, key, count), least) / now.parts


def once(key: str, make: Callable[[], float]) -> float:
    """A number that the first part of a step makes and the later ones on this rank receive.

    Args:
        key: its name, of no count.
        make: makes it; from the same values on all ranks.
    """
    now = _current.get()
    if now.totals is None:
        return make()
    if key not in now.totals:
        now.totals[key] = make()
    return now.totals[key]


def weight() -> float:
    """0 while a part is computed whose images do not count, else 1."""
    return _current.get().weight


def parts() -> int:
    """How many parts the batch of this step has; 1 where it is computed as a whole."""
    return _current.get().parts


def image_index(image: int) -> int:
    """Index in the whole batch of the image ``image`` of this part: a key for random draws."""
    return _current.get().first + image


def _total(now: _Part, key: str, count: float) -> float:
    own = count * now.weight
    if now.notes is not None:
        now.notes[key] = now.notes.get(key, 0.0) + own
        return own
    if now.totals is not None:
        return now.totals[key]
    return own if now.add is None else now.add(own)
