"""Warning when no batch arrives, with the files that the loader waits for."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unidet.errors import RunFailedError

logger = logging.getLogger(__name__)

#: Files that a message names.
NAMED = 4
#: Seconds that a thread which was left alone gets to finish, when the process ends.
GRACE = 1.0

_left: list[threading.Thread] = []


def threads_left_behind() -> bool:
    """Whether a thread that was left alone still waits for a file after a moment's grace.

    Python would wait for the loader's workers when it ends.
    """
    for thread in _left:
        thread.join(GRACE)
    return any(thread.is_alive() for thread in _left)


class StallWatch:
    """Watches one loader.

    Args:
        warn_seconds: a line after this many seconds without a batch, then after twice and four
            times as many, and so on; 0 says nothing.
        error_seconds: give up after this many seconds; 0 waits on.

    Attributes:
        report: receives the lines; the module's logger by default.

    Raises:
        ValueError: a limit below 0.
    """

    def __init__(self, warn_seconds: float = 60.0, error_seconds: float = 0.0) -> None:
        for name, value in (
            ("stall_seconds", warn_seconds),
            ("stall_error_seconds", error_seconds),
        ):
            if not value >= 0:
                raise ValueError(
                    f"Invalid value for `{name}`. Expected 0 or more. Received {value!r}."
                )
        self.warn_seconds, self.error_seconds = float(warn_seconds), float(error_seconds)
        self.report: Callable[[str], None] = logger.warning
        self._in_hand: dict[int, tuple[str, float]] = {}

    @property
    def active(self) -> bool:
        """Whether there is a limit to watch."""
        return bool(self.warn_seconds or self.error_seconds)

    @contextlib.contextmanager
    def reading(self, path: str | Path) -> Iterator[None]:
        """Notes that this thread works on a file inside the block."""
        thread = threading.get_ident()
        self._in_hand[thread] = (str(path), time.monotonic())
        try:
            yield
        finally:
            del self._in_hand[thread]

    def wait(self, answers: queue.SimpleQueue[Any]) -> Any:
        """What another thread puts into a queue, however long that takes.

        Raises:
            RunFailedError: it took ``error_seconds``.
        """
        started = time.monotonic()
        warn_at = self.warn_seconds or float("inf")
        fail_at = self.error_seconds or float("inf")
        while True:
            left = min(warn_at, fail_at) - (time.monotonic() - started)
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=None if left == float("inf") else max(left, 0.0))
            passed = time.monotonic() - started
            if passed >= fail_at:
                raise RunFailedError(
                    f"No batch for {passed:.0f} s, the limit of data.stall_error_seconds. "
                    f"{self._files()}"
                )
            self.report(f"warning: no batch for {passed:.0f} s. {self._files()}")
            warn_at *= 2

    def _files(self) -> str:
        now = time.monotonic()
        found = sorted(self._in_hand.copy().values(), key=lambda entry: entry[1])
        if not found:
            return "No file is being read."
        named = ", ".join(f"{path} ({now - since:.0f} s)" for path, since in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return f"Being read: {named}{more}."


class Puller:
    """Calls ``next`` of an iterator in a thread of its own, so that its caller sees the time pass.

    Args:
        source: the iterator; it has a ``close``.
        watch: how long to wait.
    """

    def __init__(self, source: Any, watch: StallWatch) -> None:
        self._source, self._watch = source, watch
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._busy = False
        # A daemon, because it may wait for a file for ever. It holds no reference to this object.
        self._thread = threading.Thread(
            target=_serve,
            args=(source, self._requests, self._answers),
            name="unidet-loader",
            daemon=True,
        )
        self._thread.start()

    def __next__(self) -> Any:
        self._busy = True
        self._requests.put(True)
        item, error = self._watch.wait(self._answers)
        self._busy = False
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """Ends the thread. One that is still waiting for a file is left alone and ends later."""
        self._requests.put(False)
        if self._busy:
            _left.append(self._thread)
        else:
            self._source.close()


def _serve(source: Any, requests: queue.SimpleQueue[bool], answers: queue.SimpleQueue[Any]) -> None:
    while requests.get():
        try:
            answers.put((next(source), None))
        except BaseException as error:
            answers.put((None, error))
    source.close()
