"""Limits on what PyTorch caches for input shapes."""

from __future__ import annotations

import os

#: Entries that two caches keep, 1024 by default: oneDNN's own, which is read when PyTorch first
#: computes, and PyTorch's in front of it, read when PyTorch is imported. A training step of
#: RetinaNet-101 makes 243 entries for a batch of a new size, and wants them all in the next step.
CAPACITY = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": 320, "LRU_CACHE_CAPACITY": 64}


def prepare() -> None:
    """Keeps the memory of a run with pictures of changing size level.

    On a CPU oneDNN prepares a program for each shape of each layer; such a run grew by a tenth in
    its first 250 steps. Leaves alone what the user has set.
    """
    for name, entries in CAPACITY.items():
        os.environ.setdefault(name, str(entries))
