"""Randomness as data: generators that depend on a seed and a place, and on nothing else.

Both frameworks take their random numbers from NumPy through :func:`stream`, so they see the same
initial weights, batches and samples, and a run resumes without any generator state to restore.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import numpy as np

from unidet.backends.registry import implementation, resolve


def stream(seed: int, *site: int | str) -> np.random.Generator:
    """An independent generator for one place of the program.

    Args:
        seed: the run's seed.
        site: what tells this place from every other, such as an epoch, a step or a name.

    Returns:
        A generator over Philox4x64 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
        2011) whose 128-bit key is a BLAKE2 hash of the seed and the site. The same arguments give
        the same numbers on every machine; different ones give unrelated numbers.

    Raises:
        TypeError: a part of the site is neither an integer nor a string.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (operator.index(seed), *site):
        if isinstance(part, str):
            encoded = b"s" + part.encode()
        else:
            try:
                encoded = b"i%d" % operator.index(part)
            except TypeError:
                raise TypeError(
                    f"Invalid value for `site`. Expected integers and strings. Received {part!r}."
                ) from None
        # The length in front keeps ("a", "b") and ("ab",) apart.
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    key = np.frombuffer(digest.digest(), dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


_place: ContextVar[tuple[int | str, ...]] = ContextVar("unidet_random_place", default=(0,))


@contextmanager
def at(seed: int, *site: int | str) -> Iterator[None]:
    """Inside the block, :func:`local_stream` draws for this seed and place.

    A trainer says by it which step it is at, so that what a model samples depends on the step and
    neither on what was drawn before nor on the framework.

    Args:
        seed: the run's seed.
        site: where the program is, such as a step and a micro-batch.
    """
    token = _place.set((seed, *site))
    try:
        yield
    finally:
        _place.reset(token)


@contextmanager
def within(*site: int | str) -> Iterator[None]:
    """Adds to the place that :func:`at` names, inside the block."""
    token = _place.set((*_place.get(), *site))
    try:
        yield
    finally:
        _place.reset(token)


def local_stream(*site: int | str) -> np.random.Generator:
    """:func:`stream` of the place that :func:`at` names (seed 0 outside of it) and ``site``."""
    seed, *place = _place.get()
    return stream(cast(int, seed), *place, *site)


def seed_framework(seed: int, *site: int | str, backend: str | None = None) -> None:
    """Seeds the framework's own generator, which only dropout uses.

    A trainer that calls this before each step with the step's number resumes exactly. The two
    frameworks still draw different dropout masks.
    """
    value = int(stream(seed, "framework", *site).integers(2**31 - 1))
    implementation(resolve(backend), "nn").seed(value)
