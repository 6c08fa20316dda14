"""Jittor's kernels must leave the floating-point mode of the process alone."""

from __future__ import annotations

import subprocess
import sys

from tests.frameworks import needs_jittor

SCRIPT = """
import numpy as np
from unidet.backends import ops
small = np.full(8, 1e-310)
x = ops.asarray(np.ones(8, np.float32), backend="jittor")
assert ops.to_numpy(ops.exp(x) * 3 + 1)[0] > 9
assert (small * 0.5 > 0).all(), "denormal numbers became zero"
"""


@needs_jittor
def test_denormal_numbers_of_numpy_survive_a_jittor_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
