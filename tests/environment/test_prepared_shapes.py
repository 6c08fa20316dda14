"""How many shapes PyTorch keeps prepared."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.frameworks import needs_torch

CODE = """
import os
import unidet.backends.torch
from unidet.backends.torch.memory import CAPACITY
print([os.environ[name] for name in CAPACITY])
"""


@needs_torch
@pytest.mark.parametrize(
    ("wish", "kept"),
    [({}, ["320", "64"]), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, ["7", "64"])],
)
def test_few_are_kept_unless_the_user_wants_otherwise(
    wish: dict[str, str], kept: list[str]
) -> None:
    environment = {k: v for k, v in os.environ.items() if "CACHE_CAPACITY" not in k}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environment, **wish},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(kept)
