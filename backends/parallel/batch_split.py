"""A step whose batch is computed in parts: by several ranks, by one micro-batch after the other.

Losses are divided by counts, such as the positive anchors of a batch. For the parts of a batch to
add up to the whole, each part must be divided by the count of all: models ask :func:`mean` and
:func:`least_mean` for it. And what is drawn for an image depends on its place in the whole batch:
:func:`place`. Outside of :func:`part` a batch is a whole, and all of them change nothing.
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
        first: place of this part's first image.
        weight: 0 where the part stands in for nothing, else 1.
        totals: counts of all parts by site, where they are known ahead.
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
        first: place of the part's first image in the whole batch.
        weight: 0 for a part whose images do not count.
        totals: counts of all parts by site, as :func:`counting` found them.
        add: sums a number over all ranks, which call it together; needed without ``totals``.
    """
    token = _current.set(_Part(parts, first, weight, totals, add))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def counting(notes: dict[str, float], first: int, weight: float = 1.0) -> Iterator[None]:
    """Inside the block, counts are only added to ``notes``, by site.

    Args:
        notes: where they go.
        first, weight: see :func:`part`.
    """
    token = _current.set(_Part(first=first, weight=weight, notes=notes))
    try:
        yield
    finally:
        _current.reset(token)


def mean(site: str, count: float) -> float:
    """A count of this part, averaged over all parts of the step.

    Args:
        site: what is counted; each site is asked for once in a part, by all parts alike.
        count: of this part.
    """
    now = _current.get()
    return _total(now, site, count) / now.parts


def least_mean(site: str, count: float, least: float = 1.0) -> float:
    """As :func:`mean`, of a total that is taken as ``least`` where it is smaller."""
    now = _current.get()
    return max(_total(now, site, count), least) / now.parts


def once(site: str, make: Callable[[], float]) -> float:
    """A number that the first part of a step makes and the later ones on this rank receive.

    Args:
        site: its name, of no count.
        make: makes it; from the same values on all ranks.
    """
    now = _current.get()
    if now.totals is None:
        return make()
    if site not in now.totals:
        now.totals[site] = make()
    return now.totals[site]


def weight() -> float:
    """0 while a part is computed whose images do not count, else 1."""
    return _current.get().weight


def parts() -> int:
    """How many parts the batch of this step has; 1 where it is computed as a whole."""
    return _current.get().parts


def place(image: int) -> int:
    """Place in the whole batch of the image ``image`` of this part."""
    return _current.get().first + image


def _total(now: _Part, site: str, count: float) -> float:
    own = count * now.weight
    if now.notes is not None:
        now.notes[site] = now.notes.get(site, 0.0) + own
        return own
    if now.totals is not None:
        return now.totals[site]
    return own if now.add is None else now.add(own)
