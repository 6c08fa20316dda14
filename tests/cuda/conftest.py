"""Tests that need a GPU, and are skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    """A GPU for PyTorch; models are made on the CPU and moved, as a user does it."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch found no GPU")
    before = torch.get_default_device()
    torch.set_default_device("cpu")
    yield
    torch.set_default_device(before)
