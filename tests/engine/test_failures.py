"""Runs that fail do so with one clear line, and what was saved stays whole."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from unidet.checkpoints.native import load_checkpoint
from unidet.engine import train
from unidet.engine.checkpointing import find_state, load_state
from unidet.errors import RunFailedError
from unidet.weights_convert import writers

TOY = Path(toy.__file__)


def test_a_nan_stops_the_run_with_its_state(
    backend: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = toy.Toy.losses, 0

    def losses_with_nan(self: toy.Toy, outputs: Any, targets: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        parts = original(self, outputs, targets)
        return {**parts, "loss_cls": parts["loss_cls"] * (float("nan") if count == 6 else 1.0)}

    monkeypatch.setattr(toy.Toy, "losses", losses_with_nan)
    work = tmp_path / "run"
    with pytest.raises(RunFailedError) as caught:
        train(toy.config(data), backend=backend, work_dir=work, quiet=True)
    message = str(caught.value)
    assert "epoch 2, step 6" in message and "loss/cls nan" in message
    assert "optimizer.lr (now 0.01)" in message
    before = load_state(find_state(work / "diverged"))
    assert before.progress.step == 5
    assert all(np.isfinite(value).all() for value in before.weights.values())
    assert load_state(find_state(work)).progress.step == 4
    assert message in (work / "log.txt").read_text()
    monkeypatch.setattr(toy.Toy, "losses", original)
    resumed = train(toy.config(data), backend=backend, work_dir=work, resume=True, quiet=True)
    assert resumed.steps == 12


def test_an_exploding_loss_stops_the_run(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = toy.config(
        data,
        optimizer={"name": "sgd", "lr": 500.0, "weight_decay": 0.0},
        schedule={"kind": "linear", "warmup_steps": 60, "warmup_start": 0.0},
        train={"epochs": 40, "clip_grad_norm": None, "eval_every": 0},
    )
    with pytest.raises(RunFailedError, match="Stopped at epoch"):
        train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)


def test_a_full_disk_keeps_the_earlier_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    work = tmp_path / "run"
    original, calls = writers.write_parts, 0

    def full(path: Path, parts: Any) -> None:
        nonlocal calls
        if "optimizer.safetensors" in path.name:
            calls += 1
            if calls == 2:
                original(path, list(parts)[:1])
                raise OSError(errno.ENOSPC, "No space left on device")
        original(path, parts)

    monkeypatch.setattr(writers, "write_parts", full)
    with pytest.raises(RunFailedError, match="No space left on device"):
        train(toy.config(data), backend="torch", work_dir=work, quiet=True)
    assert load_state(find_state(work)).progress.step == 4
    assert not list(work.rglob("*.tmp"))
    assert len(list((work / "state").iterdir())) == 2
    assert load_checkpoint(work / "last.safetensors").source["step"] == 4
    monkeypatch.setattr(writers, "write_parts", original)
    result = train(toy.config(data), backend="torch", work_dir=work, resume=True, quiet=True)
    assert result.steps == 12


LIMITED = """
import resource, signal, sys
sys.path.insert(0, {folder!r})
import toy
from unidet.engine import train
toy.register()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
config = toy.config({data!r}, train={{"log_every": 100}})
train(config, backend="torch", work_dir={work!r}, quiet=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
from unidet.cli.main import main
sys.exit(main(["train", "--work-dir", {work!r}, "--resume", "--backend", "torch", "--quiet",
               "--set", "train.epochs=5"]))
"""


def test_the_system_itself_refuses_a_write(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    work = tmp_path / "run"
    script = LIMITED.format(folder=str(TOY.parent), data=str(data), work=str(work))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("unidet: error: Could not write")
    assert done.stderr.count("\n") == 1
    assert load_state(find_state(work)).progress.step == 12
    assert not list(work.rglob("*.tmp"))


@pytest.mark.parametrize("header", [640, 896, 1152, 1408])
def test_header_lengths_that_look_like_a_pickle(header: int, tmp_path: Path) -> None:
    from unidet.checkpoints.native import read_arrays, write_arrays

    path, arrays = tmp_path / "x.safetensors", {"a": np.ones(2, np.float32)}
    write_arrays(path, arrays, {"text": ""})
    shortest = int.from_bytes(path.read_bytes()[:8], "little")
    write_arrays(path, arrays, {"text": "x" * (header - shortest)})
    assert path.read_bytes()[:8] == header.to_bytes(8, "little")
    assert read_arrays(path)[0]["a"].tolist() == [1, 1]
