"""Cheap commands stay cheap: neither framework is imported until a model is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

REPORT = """
import json, sys
print(json.dumps([name for name in ("torch", "jittor") if name in sys.modules]))
"""


def frameworks_after(program: str) -> list[str]:
    """Frameworks that are imported once ``program`` has run in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "UNIDET_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", program + REPORT], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


RUN_MODULE = """
import runpy, sys
sys.argv = ['unidet', *{arguments}]
try:
    runpy.run_module('unidet', run_name='__main__')
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.mark.parametrize(
    "program",
    [
        "import unidet",
        "import unidet.cli.main",
        "import unidet.backends",
        "import unidet.backends.kernels",
        "import unidet.weights_convert",
        "import unidet.data, unidet.evaluation, unidet.losses, unidet.models",
        RUN_MODULE.format(arguments=["--help"]),
        RUN_MODULE.format(arguments=["train", "--help"]),
        RUN_MODULE.format(arguments=["doctor", "--help"]),
        RUN_MODULE.format(arguments=["warmup", "--help"]),
    ],
)
def test_neither_framework_is_imported(program: str) -> None:
    assert frameworks_after(program) == []


def test_an_import_would_be_seen() -> None:
    stand_in = "import sys, types; sys.modules['torch'] = types.ModuleType('torch')"
    assert frameworks_after(stand_in) == ["torch"]
