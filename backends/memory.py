"""How the C library hands out memory: settings of glibc, without effect on other systems."""

from __future__ import annotations

import ctypes
import os

#: Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def map_large_blocks(size: int, kept: int) -> None:
    """Lets large blocks go back to the system whole, as glibc does before it adapts.

    Does nothing with another C library, or where the user has set ``MALLOC_MMAP_THRESHOLD_``.

    Args:
        size: blocks from this many bytes on are mapped one by one.
        kept: free bytes at the end of the heap that stay with the process.
    """
    mallopt = _function("mallopt")
    if mallopt is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_MMAP_THRESHOLD, size)
        mallopt(_TRIM_THRESHOLD, kept)


def release_free_memory() -> None:
    """Returns free pages of the heap to the system; nothing with another C library."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


class Releases:
    """Calls :func:`release_free_memory` now and then.

    Photos of many sizes leave gaps in the heap, and a process that only predicts grew by a tenth
    in 2,000 of them.

    Args:
        every: uses between two calls. A call takes milliseconds.
    """

    def __init__(self, every: int = 50) -> None:
        self._every, self._uses = every, 0

    def used(self) -> None:
        """Counts one use."""
        self._uses += 1
        if self._uses % self._every == 0:
            release_free_memory()


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    try:
        return getattr(ctypes.CDLL(None), name)  # type: ignore[no-any-return]
    except (AttributeError, OSError, TypeError):
        return None
