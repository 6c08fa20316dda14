"""What sides that share a process would have to themselves alone: the heap, prepared shapes."""

from __future__ import annotations

import os
import sys

# Several models and precisions have more shapes than one training run (`backends/torch/memory.py`).
# Read when PyTorch first computes.
os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "4096"

#: Where glibc's own limits end up once large blocks have been freed.
MAPPED_BYTES, KEPT_BYTES = 32 * 2**20, 64 * 2**20


def as_alone(side: str) -> None:
    """Prepares for the turn of a side, by its name.

    Jittor has blocks from 4 MiB on mapped one by one, which would slow PyTorch down by a fifth.
    """
    if "jittor" not in sys.modules:
        return
    from unidet.backends.jittor import memory
    from unidet.backends.memory import map_large_blocks

    if "jittor" in side:
        memory.prepare()
        return
    map_large_blocks(MAPPED_BYTES, KEPT_BYTES)
