"""Error reports in training with several ranks: the first rank that fails prints."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from unidet.backends.parallel.launch import launched


def complain(text: str) -> None:
    """Prints one line on stderr, unless another rank of the same job has done so before.

    Ranks that meet the same error, and those that end because one of them did, stay silent.
    """
    found = launched()
    if found is None:
        print(f"unidet: error: {text}", file=sys.stderr)
        return
    _, rank, _ = found
    if _first():
        print(f"unidet: rank {rank}: error: {text}", file=sys.stderr, flush=True)


def _first() -> bool:
    """Whether this process is the first of its job, on this machine, that asks."""
    # All ranks are children of one launcher, whose start tells it from an earlier one.
    parent = os.getppid()
    started = ""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8")
        started = stat.rpartition(")")[2].split()[19]
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    name = f"unidet-{os.getuid()}-{parent}-{started}-{attempt}.failed"
    claim = Path(tempfile.gettempdir(), name)
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError:
        return True
    return True
