"""Marks of tests that need one framework."""

from __future__ import annotations

import pytest

from unidet.backends import available

needs_torch = pytest.mark.skipif("torch" not in available(), reason="torch is not installed")
#: Not ``importorskip``: a part of Jittor that is imported before unidet has prepared the process
#: keeps its kernels elsewhere, and compiles all of them again.
needs_jittor = pytest.mark.skipif("jittor" not in available(), reason="jittor is not installed")
