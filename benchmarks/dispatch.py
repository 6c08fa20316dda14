"""Cost of one call through the operations layer, beyond the native function it ends in.

    python benchmarks/dispatch.py

Prints microseconds per call on tensors of three elements; the bar is 2 µs.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import torch

from unidet.backends import ops

CALLS = 20_000


def pairs(x: torch.Tensor) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """For each operation the call through the layer and the native one."""
    return {
        "exp": (lambda: ops.exp(x), lambda: torch.exp(x)),
        "sum": (lambda: ops.sum(x), lambda: torch.sum(x)),
        "clip": (lambda: ops.clip(x, 0, 1), lambda: torch.clamp(x, 0, 1)),
        "max": (lambda: ops.max(x, 0), lambda: torch.amax(x, 0)),
        "reshape": (lambda: ops.reshape(x, (3, 1)), lambda: x.reshape(3, 1)),
        "concat": (lambda: ops.concat([x, x]), lambda: torch.cat([x, x])),
        "split": (lambda: ops.split(x, (1, 2)), lambda: torch.split(x, (1, 2))),
        "pad": (
            lambda: ops.pad(x, [(1, 1)]),
            lambda: torch.nn.functional.pad(x, (1, 1)),
        ),
    }


def microseconds(call: Callable[[], Any]) -> float:
    """Fastest of five runs."""
    return min(timeit.repeat(call, number=CALLS, repeat=5)) / CALLS * 1e6


def main() -> None:
    """Prints one line for each operation."""
    print(f"{'operation':<10}{'native µs':>12}{'layer adds µs':>16}")
    for name, (through, native) in pairs(torch.ones(3)).items():
        base = microseconds(native)
        print(f"{name:<10}{base:>12.2f}{microseconds(through) - base:>16.2f}")


if __name__ == "__main__":
    main()
