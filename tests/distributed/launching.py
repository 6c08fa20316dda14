"""Runs of several ranks, started as a user starts them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from unidet.cli.train import QUICKSTART

#: Everything that a launcher or another rank reads; pytest itself may have been started by one.
_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "OMPI_", "PMIX_", "TORCHELASTIC_")
RANKS = 2


def needs_launcher(backend: str) -> None:
    """Skips where ranks of the backend cannot be started."""
    if backend == "jittor" and not (shutil.which("mpirun") and shutil.which("mpicc")):
        pytest.skip("OpenMPI is not installed (apt-get install openmpi-bin libopenmpi-dev)")


def command(backend: str, ranks: int, words: list[str]) -> list[str]:
    """``unidet`` with some words, on one rank or several."""
    own = ["-m", "unidet", *words]
    if ranks == 1:
        return [sys.executable, *own]
    if backend == "torch":
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        return [sys.executable, *launcher, *own]
    return ["mpirun", "-np", str(ranks), sys.executable, *own]


def start(backend: str, ranks: int, words: list[str]) -> subprocess.Popen[str]:
    """Starts it in a session of its own, quietly and with one thread a rank."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_LAUNCHER)}
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # More ranks than cores, on a small machine.
    crowded = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    return subprocess.Popen(
        command(backend, ranks, words),
        env={**inherited, **allowed, **crowded, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
    """Status and output; whatever hangs is killed and is an error."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"still running after {seconds} s:\n{output}")
    return process.returncode, output


def run(backend: str, ranks: int, words: list[str]) -> str:
    """Output of a run that ends well."""
    status, output = finish(start(backend, ranks, words))
    assert status == 0, output
    return output


def train_words(
    backend: str, folder: Path, config: str = QUICKSTART, **changes: object
) -> list[str]:
    """``train`` with a folder and keys set, dots written as ``__``."""
    words = ["train", config, "--backend", backend, "--work-dir", str(folder)]
    for key, value in changes.items():
        words += ["--set", f"{key.replace('__', '.')}={value}"]
    return words


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the ranks, by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        for variable in variables if parent == process.pid else ():
            name, _, value = variable.partition(b"=")
            if name in (b"RANK", b"OMPI_COMM_WORLD_RANK"):
                found[int(value)] = int(entry.name)
    return [found[rank] for rank in sorted(found)]


def wait_until(
    done: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300
) -> None:
    """Waits for something that a running process brings about."""
    deadline = time.monotonic() + seconds
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"it did not come about:\n{process.communicate()[0]}")
        time.sleep(0.05)
