"""A long run with pictures of random size keeps its memory and compiles nothing new."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest

from tests.proofs.steady import MODELS, measure

#: Steps of warming up: by then each kind of batch has come by.
WARM = 50
STEPS = 500


def late_kernels(found: dict[str, Any]) -> int:
    """Kernels that were loaded after the warm-up, wherever they came from."""
    return int(found["kernels"][-1] - found["kernels"][WARM - 1])


def levels(found: dict[str, Any]) -> tuple[float, float]:
    """Resident MiB around the end of the warm-up, and at the end."""
    rss = found["rss"]
    return statistics.median(rss[WARM - 10 : WARM + 10]), statistics.median(rss[-20:])


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_five_hundred_steps(model: str, backend: str) -> None:
    found = measure(backend, model, STEPS)
    early, late = levels(found)
    print(
        f"\n{model} on {backend}: {early:.0f} MiB around step {WARM}, {late:.0f} at {STEPS}, "
        f"{max(found['rss'][WARM:]):.0f} at most; {found['kernels'][WARM - 1]} kernels by step "
        f"{WARM}, {late_kernels(found)} later"
    )
    assert np.isfinite(found["losses"]).all()
    assert late_kernels(found) == 0
    # A chain that nobody computes would grow by some nodes with every step.
    assert max(found["nodes"][-20:]) <= max(found["nodes"][WARM - 20 : WARM])
    assert late <= 1.05 * early


@pytest.mark.slow_on("torch")
def test_sizes_of_pictures_compile_nothing(backend: str) -> None:
    """The quick version: wide, tall and small pictures, one to three of them, full or bare."""
    found = measure(backend, "retinanet", 40)
    assert np.isfinite(found["losses"]).all()
    assert found["kernels"][-1] == found["kernels"][9]


@pytest.mark.slow
def test_two_thousand_predictions(backend: str) -> None:
    rss = measure(backend, "retinanet", 2000, predict=True)["rss"]
    medians = [statistics.median(rss[at - 50 : at + 50]) for at in range(400, 2000, 100)]
    print(f"\n{backend}: {medians} MiB around predictions 400 to 1,900")
    assert max(medians) <= 1.05 * medians[0]
