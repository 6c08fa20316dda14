"""A sweep whose runs have processes of their own: stopped, killed, gone on with."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cli.test_train_command import TINY
from unidet.backends import available
from unidet.runs.child import run_command

RUN = "lr=0.001,seed=3407"
#: Two steps each: enough that a signal finds the run at work on a busy machine, too.
EPOCHS = 12


def sweep(folder: Path) -> subprocess.Popen[str]:
    words = ["tiny.yaml", "--grid", "optimizer.lr=1e-3", "--work-dir", "sweep", "--quiet"]
    words += ["--backend", available()[0], "--set", "train.checkpoint_every=1"]
    words += ["--set", f"train.epochs={EPOCHS}"]
    words += ["--set", f"train.eval_every={EPOCHS}"]
    return subprocess.Popen(
        [sys.executable, "-m", "unidet", "sweep", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def free(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def saved(root: Path) -> int:
    """Step of the last saved state."""
    try:
        return int((root / RUN / "state" / "current").read_text()[5:13])
    except (OSError, ValueError):
        return 0


def going(process: subprocess.Popen[str], root: Path, reached: int) -> bool:
    """Whether a step after ``reached`` was saved."""
    if process.poll() is not None:
        pytest.fail(process.communicate()[0])
    return saved(root) > reached


@pytest.mark.slow
def test_a_child_ends_with_its_sweep_and_the_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "tiny.yaml").write_text(TINY)
    root = tmp_path / "sweep"
    reached = 0
    for number in (signal.SIGINT, signal.SIGKILL):
        process = sweep(tmp_path)
        wait_for(partial(going, process, root, reached))
        os.kill(process.pid, number)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -number), out
        # The child holds the lock for as long as it lives.
        wait_for(lambda: free(root / ".lock"), 20)
        reached = saved(root)
        assert json.loads((root / "record.json").read_text())["runs"][RUN] == {
            "status": "interrupted"
        }
    process = sweep(tmp_path)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "goes on, interrupted" in out and "done in" in out
    log = (root / RUN / "log.txt").read_text()
    assert log.count("written on torch") == 2 and saved(root) == 2 * EPOCHS


def test_a_second_sweep_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "sweep").mkdir()
    with (tmp_path / "sweep" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = sweep(tmp_path)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "another sweep trains" in out


def test_why_a_child_failed_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with open(os.devnull) as file:
        assert run_command(["doctor", "--help"], lock=file.fileno()) == ""
        reason = run_command(["train", "nothing.yaml"], lock=file.fileno())
    assert reason.startswith("Invalid value for `config`")
    assert "unidet: error: Invalid value" in capfd.readouterr().err
