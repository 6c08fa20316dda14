"""Ranks on PyTorch: ``torchrun``, ``torch.distributed`` and ``DistributedDataParallel``."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from unidet.backends.parallel.ranks import Losses, RanksLostError


def start(rank: int, size: int, device: str) -> None:
    """Joins the group that ``torchrun`` describes."""
    # torchrun ends the ranks that are left when one has failed.
    signal.signal(signal.SIGTERM, _told_to_stop)
    own = int(os.environ.get("LOCAL_RANK", 0))
    if device == "cuda" and own >= torch.cuda.device_count():
        raise ValueError(
            f"Invalid value for `device`. Expected 'cpu', or a GPU for each rank of this machine. "
            f"Received 'cuda' for rank {own} and {torch.cuda.device_count()} GPUs."
        )
    with failures_named():
        if device == "cuda":
            torch.cuda.set_device(own)
        # Numbers of the host travel by gloo whatever the device.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")


def _told_to_stop(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise RanksLostError("torchrun ends this rank")


def stop() -> None:
    """Leaves the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def failures_named() -> Iterator[None]:
    """Tells a lost connection from an error of this rank's own."""
    try:
        yield
    except dist.DistError as error:
        raise RanksLostError(str(error)) from error
    except RuntimeError as error:
        # gloo has no type of its own for it.
        if "gloo" in str(error).lower() or "Connection" in str(error):
            raise RanksLostError(str(error)) from error
        raise


def all_sum(values: np.ndarray) -> np.ndarray:
    """Sum over all ranks."""
    tensor = torch.from_numpy(values.copy())
    with failures_named():
        dist.all_reduce(tensor)
    return tensor.numpy()


def all_bytes(data: np.ndarray, place: slice, length: int) -> np.ndarray:
    """``length`` bytes, of which each rank gives those of its ``place``."""
    everything = torch.zeros(length, dtype=torch.uint8)
    everything[place] = torch.from_numpy(data.copy())
    with failures_named():
        dist.all_reduce(everything)
    return everything.numpy()


class _SumOfRanks(torch.autograd.Function):
    """Sum over all ranks, forward and backward."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        with failures_named():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        with failures_named():
            dist.all_reduce(total)
        return total


def batch_statistics(
    x: torch.Tensor, weight: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel over the images of all ranks.

    Args:
        x: ``(N, C, H, W)``.
        weight: 0 for images that do not count.

    Returns:
        ``(C,)``, ``(C,)`` and how many values each channel has, ``(1,)``.
    """
    count = x.new_tensor([x.shape[0] * x.shape[2] * x.shape[3] * weight])
    sums = _SumOfRanks.apply(torch.cat([x.sum((0, 2, 3)) * weight, count]))
    total = sums[-1:].detach()
    mean = sums[:-1] / total
    squares = (x - mean[:, None, None]).square().sum((0, 2, 3)) * weight
    return mean, _SumOfRanks.apply(squares) / total, total


class _Whole(torch.nn.Module):
    """A model together with its losses: all that a step differentiates lies within ``forward``."""

    def __init__(self, model: torch.nn.Module, losses: Losses) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, batch: Any) -> dict[str, Any]:
        return self.losses(batch)


def averaging(
    model: torch.nn.Module, losses: Losses
) -> tuple[Losses, Callable[[], AbstractContextManager[Any]]]:
    """See :func:`unidet.backends.parallel.ranks.averaging`."""
    # Which parameters a step reaches depends on what is in its images. Buffers are ours to share.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False, "find_unused_parameters": True}
    whole = DistributedDataParallel(_Whole(model, losses), **options)
    return whole, whole.no_sync
