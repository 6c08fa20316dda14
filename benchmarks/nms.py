"""Speed of non-maximum suppression: compiled kernel, NumPy form and plain tensor operations.

Run as ``python benchmarks/nms.py [--rounds N] [--threads N]``. The methods take turns within each
round, so that other load on the machine meets all of them; medians in milliseconds are printed, and
the median of the paired ratios to the kernel.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable

import numpy as np

IOU_THRESHOLD = 0.7
SIZES = (1000, 2000, 8000)


def clustered(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Forty boxes around each object."""
    places = rng.uniform(0, 1000, (n // 40, 2))
    centres = places[rng.integers(0, len(places), n)] + rng.normal(0, 4, (n, 2))
    return _boxes(centres, rng.uniform(40, 60, (n, 2))), rng.random(n, np.float32)


def spread(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes all over the picture, most of which survive."""
    centres = rng.uniform(0, 1300, (n, 2))
    return _boxes(centres, rng.uniform(5, 60, (n, 2))), rng.random(n, np.float32)


def _boxes(centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).astype(np.float32)


def interleaved(methods: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each method in each round, after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            if number:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: np.asarray(values) for name, values in times.items()}


def without_library(call: Callable[[], object]) -> Callable[[], object]:
    """The same call with the compiled library turned off."""

    def run() -> object:
        os.environ["UNIDET_KERNELS"] = "0"
        try:
            return call()
        finally:
            del os.environ["UNIDET_KERNELS"]

    return run


def report(title: str, times: dict[str, np.ndarray]) -> None:
    """One line: medians, and in brackets the ratio to the kernel."""
    kernel = times["kernel"]
    cells = [
        f"{name} {np.median(values):9.3f} ms ({np.median(values / kernel):6.1f}x)"
        for name, values in times.items()
    ]
    print(f"{title:27s}" + "   ".join(cells), flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="for the batched kernel")
    arguments = parser.parse_args()
    from unidet.backends import kernels

    if not kernels.available():
        parser.error("the compiled kernel library is not installed; see `unidet doctor`")
    composite = None
    if importlib.util.find_spec("unidet.backends.kernels.composite") is not None:
        from unidet.backends.kernels import composite
    rng = np.random.default_rng(0)
    print(f"IoU {IOU_THRESHOLD}, medians of {arguments.rounds} rounds, ratio to the kernel")
    for make in (clustered, spread):
        for size in SIZES:
            boxes, scores = make(rng, size)
            call = lambda b=boxes, s=scores: kernels.nms(b, s, IOU_THRESHOLD)  # noqa: E731
            methods = {"kernel": call, "numpy": without_library(call)}
            if composite is not None:
                methods["composite"] = lambda b=boxes, s=scores: composite.nms(b, s, IOU_THRESHOLD)
            report(f"{make.__name__} {size}", interleaved(methods, arguments.rounds))
        boxes, scores = make(rng, 5000)
        classes = rng.integers(0, 80, 5000)
        call = lambda b=boxes, s=scores, c=classes: kernels.batched_nms(  # noqa: E731
            b, s, c, IOU_THRESHOLD, threads=arguments.threads
        )
        methods = {"kernel": call, "numpy": without_library(call)}
        report(f"{make.__name__} 5000, 80 classes", interleaved(methods, arguments.rounds))


if __name__ == "__main__":
    main()
