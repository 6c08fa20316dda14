"""Detects the launcher of this process, if any. Imports nothing."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def launched() -> tuple[str, int, int] | None:
    """Which launcher started this process, its rank and the number of ranks; None if none did.

    A launcher that started a single process counts as none.
    """
    variables = {
        "torchrun": ("RANK", "WORLD_SIZE"),
        "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    }
    for launcher, (rank, size) in variables.items():
        if int(os.environ.get(size, 1)) > 1 and rank in os.environ:
            return launcher, int(os.environ[rank]), int(os.environ[size])
    return None


def abandon(status: int) -> NoReturn:
    """Ends this process at once, so that the launcher ends the other ranks.

    An ordinary exit of one rank waits for the others, which wait for it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
