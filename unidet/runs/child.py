"""Training in a child process, which ends when its parent ends.

A run leaves no memory behind for the next one, and a crash of one ends only that one.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence

from unidet.errors import EXIT_INTERRUPTED

_PATIENCE = 10.0
_KEPT = 20


def run_command(words: Sequence[str], *, lock: int) -> str:
    """Runs one `unidet` command in a child process.

    Args:
        words: after ``unidet``.
        lock: a file that the child keeps open, so that its lock outlives a killed parent for as
            long as the child does.

    Returns:
        Why it failed, in one line; empty where it did not.

    Raises:
        KeyboardInterrupt: this process or the child was interrupted; the child has ended.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "unidet.runs.child", *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=(lock,),
    )
    said: deque[str] = deque(maxlen=_KEPT)
    try:
        for line in process.stderr or ():
            sys.stderr.write(line)
            said.append(line.strip())
        status = process.wait()
    finally:
        _end(process)
    if status == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if status < 0:
        return f"ended by signal {-status}"
    last = next((line for line in reversed(said) if line), f"ended with exit status {status}")
    return last.removeprefix("unidet: error: ") if status else ""


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the child if it still runs: it does so itself once its input closes."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _end_with_parent() -> None:
    # Reads below Python's buffers, whose lock would be held when the interpreter shuts down.
    while os.read(0, 1):
        pass
    # What is on disk is whole at any moment, so nothing needs to be finished.
    os._exit(EXIT_INTERRUPTED)


def main() -> None:
    """The child: a `unidet` command that ends when its input does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("unidet", run_name="__main__")


if __name__ == "__main__":
    main()
