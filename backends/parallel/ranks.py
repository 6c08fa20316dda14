"""Several processes that train or evaluate one model together: ranks.

PyTorch's are started by ``torchrun`` and Jittor's by ``mpirun``; each is told its rank by its
launcher through environment variables. :func:`join` makes the ranks of a job known to each other,
and from then on :func:`world` says who they are. A process that was started alone is a world of its
own, in which everything here is free.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from unidet.backends import nn
from unidet.backends.parallel.launch import abandon, launched
from unidet.backends.registry import implementation


class RanksLostError(RuntimeError):
    """Another rank failed, or the launcher ended this one: nothing can be exchanged any more."""


@dataclass(frozen=True)
class World:
    """The ranks of a job, as one of them sees it.

    Attributes:
        rank: of this process, from 0.
        size: number of ranks.
        backend: whose engine connects them; None for a process that is alone.
    """

    rank: int = 0
    size: int = 1
    backend: str | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes and speaks."""
        return self.rank == 0

    @property
    def _native(self) -> ModuleType:
        if self.backend is None:
            raise RuntimeError("A process that is alone has nobody to exchange anything with.")
        return implementation(self.backend, "distributed")

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sums float64 arrays of one shape over all ranks, which call it together.

        Raises:
            RanksLostError: from here and from every method that exchanges something.
        """
        if self.size == 1:
            return values
        result: np.ndarray = self._native.all_sum(np.ascontiguousarray(values, np.float64))
        return result

    def add(self, value: float) -> float:
        """:meth:`sum` of one number."""
        return value if self.size == 1 else float(self.sum(np.array([value]))[0])

    def largest(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """The largest of each number over all ranks."""
        if self.size == 1:
            return values
        slots = np.zeros((self.size, len(values)))
        slots[self.rank] = values
        return tuple(int(value) for value in self.sum(slots).max(axis=0))

    def gather(self, value: Any) -> list[Any]:
        """What each rank hands in, by rank; for plain values, which are pickled."""
        if self.size == 1:
            return [value]
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.zeros(self.size)
        sizes[self.rank] = len(data)
        borders = np.cumsum([0, *self.sum(sizes).astype(np.int64)])
        place = slice(borders[self.rank], borders[self.rank + 1])
        everything: np.ndarray = self._native.all_bytes(data, place, int(borders[-1]))
        return [
            pickle.loads(everything[start:stop].tobytes())
            for start, stop in itertools.pairwise(borders)
        ]

    def from_main(self, value: Any) -> Any:
        """What rank 0 hands in, on every rank."""
        return self.gather(value if self.is_main else None)[0]

    def wait(self) -> None:
        """Returns when every rank has come here."""
        self.add(0.0)


_world = World()


def world() -> World:
    """The world of this process."""
    return _world


def join(backend: str, device: str) -> World:
    """Connects this process with the others of its job; later calls change nothing.

    Args:
        backend: "torch" or "jittor".
        device: "cpu" or "cuda"; each rank of a machine takes a GPU of its own.

    Raises:
        ValueError: the launcher is the other framework's.
        RanksLostError: the others cannot be reached.
    """
    global _world
    found = launched()
    if found is None or _world.size > 1:
        return _world
    launcher, rank, size = found
    own = {"torch": "torchrun", "jittor": "mpirun"}[backend]
    if launcher != own:
        raise ValueError(
            f"Invalid value for `backend`. Expected that of {launcher}, which started "
            f"{size} processes. Received {backend!r}, whose ranks are started by {own}."
        )
    # Quiet about steps that do reach every parameter, once for each rank.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    implementation(backend, "distributed").start(rank, size, device)
    _world = World(rank, size, backend)
    _abandon_on_errors()
    return _world


def leave() -> None:
    """Ends the connection, if there is one."""
    global _world
    if _world.backend is not None:
        _world._native.stop()
        _world = World()


def _abandon_on_errors() -> None:
    report = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        report(kind, error, trace)
        abandon(1)

    sys.excepthook = hook


@contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 runs the block before the other ranks do."""
    if not _world.is_main:
        _world.wait()
    yield
    if _world.is_main:
        _world.wait()


#: What computes the losses of a batch.
Losses = Callable[[Any], dict[str, Any]]


def averaging(model: Any, losses: Losses) -> tuple[Losses, Callable[[], AbstractContextManager]]:
    """Makes backward passes average gradients over all ranks, where the engine can do so.

    Args:
        model: a model of either backend.
        losses: computes what is differentiated, by ``model`` alone.

    Returns:
        ``losses`` as it is to be called; and a maker of contexts in which forward and backward
        passes only gather gradients for a later one.
    """
    if _world.size == 1:
        return losses, nullcontext
    found: tuple[Losses, Any] = _world._native.averaging(model, losses)
    return found


def share_buffers(model: Any) -> None:
    """Gives every rank the buffers of rank 0, such as running statistics."""
    if _world.size == 1:
        return
    known = nn.parameters(model)
    own = {name: value for name, value in nn.state_arrays(model).items() if name not in known}
    if own:
        nn.load_arrays(model, _world.from_main(own), strict=False).check_known()
