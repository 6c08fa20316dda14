"""Jittor must not decide what a killed child process means for its parent."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.frameworks import needs_jittor

SCRIPT = """
import signal, subprocess, sys
from unidet.backends.registry import implementation
implementation("jittor")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
child.kill()
assert child.wait() == -signal.SIGKILL
print("alive", flush=True)
signal.raise_signal(signal.SIGSEGV)
"""


@needs_jittor
def test_a_killed_child_is_survived_and_a_crash_shows() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.strip() == "alive", done.stderr
    assert done.returncode == -signal.SIGSEGV
