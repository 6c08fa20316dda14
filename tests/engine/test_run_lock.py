"""Two runs in one folder: one works, the other says who holds it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import toy
from runs import assert_same_weights, losses

from unidet.engine import train
from unidet.engine.run_lock import LOCK, locked
from unidet.errors import UserError

_HOLD = """
import sys, time
from pathlib import Path
from unidet.engine.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "new" / "run"
    process = _holder(root)
    with (
        pytest.raises(UserError, match=rf"process {process.pid} on .* since \d{{4}}-"),
        locked(root),
    ):
        pass
    assert (root / LOCK).exists()
    process.communicate("")
    assert not (tmp_path / "new").exists(), "an empty folder made for the lock goes with it"


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    process = _holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_children_do_not_keep_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with locked(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lock_file_of_any_content_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(b"\xff" * 10_000)
    holder = f"process {os.getpid()} "
    with locked(tmp_path), pytest.raises(UserError, match=holder), locked(tmp_path):
        pass


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_is_refused_and_changes_nothing(overwrite: bool, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config, work = toy.config(data, train={"epochs": 1}), tmp_path / "run"
    train(config, backend="torch", work_dir=work, quiet=True)
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    with locked(work), pytest.raises(UserError, match="in which nothing runs"):
        train(
            config, backend="torch", work_dir=work, quiet=True, overwrite=overwrite,
            resume=not overwrite,
        )  # fmt: skip
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("orders", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_two_runs_in_one_folder(backend: str, orders: int, data: Path, tmp_path: Path) -> None:
    if backend == "jittor" and orders == 2:
        pytest.skip("the lock is the same code; the slow test runs both")
    config = toy.config(data, train={"checkpoint_every": 1})
    whole = tmp_path / "whole"
    train(config, backend=backend, work_dir=whole, quiet=True)
    draw = random.Random(3)
    for order in range(orders):
        work = tmp_path / f"run-{order}"
        words = [sys.executable, toy.__file__, backend, str(data), str(work), "no", "0", "never"]
        first = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        time.sleep(draw.random())
        second = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        errors = [process.communicate(timeout=300)[1] for process in (first, second)]
        codes = [first.returncode, second.returncode]
        assert sorted(code == 0 for code in codes) == [False, True], errors
        said = errors[codes.index(next(code for code in codes if code))]
        assert "in which nothing runs" in said or "Expected a new or empty folder" in said
        np.testing.assert_allclose(losses(work), losses(whole), rtol=1e-6)
        assert_same_weights(work, whole)
        assert not (work / LOCK).exists()
