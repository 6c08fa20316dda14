"""Skips for tests that need one framework."""

from __future__ import annotations

import pytest

from unidet.backends import available


def needs_jittor(*, allow_module_level: bool = False) -> None:
    """Skips where Jittor is not installed.

    Not ``importorskip``: importing a part of Jittor before unidet has prepared the process makes it
    keep its kernels elsewhere, and compile all of them again.
    """
    if "jittor" not in available():
        pytest.skip("jittor is not installed", allow_module_level=allow_module_level)
