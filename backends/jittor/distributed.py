"""Ranks on Jittor: ``mpirun`` and Jittor's own operations over MPI."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.module import as_var
from unidet.backends.parallel.ranks import Losses


def start(rank: int, size: int, device: str) -> None:
    """Checks that Jittor sees the ranks that ``mpirun`` has started.

    Raises:
        ValueError: it was built without MPI.
    """
    found = (jt.rank, jt.world_size) if jt.in_mpi else (0, 1)
    if found != (rank, size):
        raise ValueError(
            f"Invalid value for `backend`. Expected a Jittor with MPI under mpirun: rank {rank} of "
            f"{size}. Received one that is rank {found[0]} of {found[1]}. Install OpenMPI with its "
            "headers, e.g. apt-get install openmpi-bin libopenmpi-dev, so that mpicc is found."
        )


def stop() -> None:
    """MPI ends with the process."""
    jt.sync_all()


def all_sum(values: np.ndarray) -> np.ndarray:
    """Sum over all ranks."""
    found = as_var(values.reshape(-1)).mpi_all_reduce("add")
    return np.array(found.numpy(), np.float64).reshape(values.shape)


def all_bytes(data: np.ndarray, place: slice, length: int) -> np.ndarray:
    """``length`` bytes, of which each rank gives those of its ``place``."""
    everything = np.zeros(length, np.int32)
    everything[place] = data
    return as_var(everything).mpi_all_reduce("add").numpy().astype(np.uint8)


def averaging(
    model: Any, losses: Losses
) -> tuple[Losses, Callable[[], AbstractContextManager[Any]]]:
    """Leaves the losses alone: the optimizer averages what it has gathered."""
    return losses, nullcontext
