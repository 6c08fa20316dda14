"""Resuming equals not having stopped: after a kill at any moment, and on the other framework."""

from __future__ import annotations

import dataclasses
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from runs import assert_same_weights, interrupt, losses, rows

from unidet.checkpoints.native import load_checkpoint
from unidet.engine import checkpointing, train
from unidet.engine.checkpointing import find_state, load_state
from unidet.engine.saved_state import generations
from unidet.errors import UserError

TOY = Path(toy.__file__)


@pytest.mark.parametrize("step", [3, 4, 6], ids=["in epoch 1", "between epochs", "in epoch 2"])
def test_resumed_equals_uninterrupted(
    backend: str, step: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "jittor" and step != 6:
        pytest.skip("one place is enough on the slower backend")
    config = toy.config(
        data,
        model={"arguments": {"dropout": 0.2}},
        train={"checkpoint_every": 1, "ema_decay": 0.9, "log_every": 3},
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train(config, backend=backend, work_dir=whole, quiet=True)
    interrupt(config, step, monkeypatch, backend=backend, work_dir=parts, quiet=True)
    assert load_state(find_state(parts)).progress.step in (step, step - 1)
    result = train(config, backend=backend, work_dir=parts, resume=True, quiet=True)
    assert result.steps == 12
    np.testing.assert_allclose(losses(parts), losses(whole), rtol=1e-6)
    np.testing.assert_allclose(result.epoch_losses, expected.epoch_losses, rtol=1e-6)
    assert [row["step"] for row in rows(parts)] == [row["step"] for row in rows(whole)]
    assert_same_weights(parts, whole)
    ema = load_checkpoint(parts / "last_ema.safetensors").arrays
    for name, value in load_checkpoint(whole / "last_ema.safetensors").arrays.items():
        np.testing.assert_allclose(value, ema[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("first", "second"), [("torch", "jittor"), ("jittor", "torch")])
def test_a_run_goes_on_with_the_other_framework(
    first: str, second: str, both: None, data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = toy.config(data, train={"checkpoint_every": 1})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config, backend=first, work_dir=whole, quiet=True)
    interrupt(config, 6, monkeypatch, backend=first, work_dir=parts, quiet=True)
    assert load_state(find_state(parts)).backend == first
    result = train(config, backend=second, work_dir=parts, resume=True, quiet=True)
    assert result.steps == 12
    # Two frameworks sum in different orders: six steps apart they agree to rounding.
    np.testing.assert_allclose(losses(parts), losses(whole), rtol=2e-4)
    assert f"written on {first}" in (parts / "log.txt").read_text()


def test_both_frameworks_train_alike(both: None, data: Path, tmp_path: Path) -> None:
    config = toy.config(data)
    for backend in ("torch", "jittor"):
        train(config, backend=backend, work_dir=tmp_path / backend, quiet=True)
    np.testing.assert_allclose(losses(tmp_path / "torch"), losses(tmp_path / "jittor"), rtol=2e-4)


def run_killed(
    backend: str, data: Path, work: Path, *, resume: bool, calls: int, target: str
) -> int:
    words = [backend, str(data), str(work), "yes" if resume else "no", str(calls), target]
    done = subprocess.run(
        [sys.executable, str(TOY), *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize(
    "targets",
    [
        # Saving number 2 dies before its switch, the resumed run's saving 5 dies at publishing.
        [(2, "state/current"), (5, "last.safetensors")],
        # Dies while weights are being written, then while the optimizer's moments are.
        [(3, "weights.safetensors"), (4, "optimizer.safetensors")],
        # Dies right before the folder of a generation gets its name, then in best.safetensors.
        [(3, "state/step-"), (1, "best.safetensors")],
    ],
    ids=["switch, publish", "weights, moments", "generation, best"],
)
def test_kill_9_at_any_moment_of_saving(
    backend: str,
    targets: list[tuple[int, str]],
    data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if backend == "jittor" and "weights, moments" not in request.node.name:
        pytest.skip("the moments between files are the same code on both backends")
    config = toy.config(data, train={"checkpoint_every": 1})
    whole, work = tmp_path / "whole", tmp_path / "killed"
    train(config, backend=backend, work_dir=whole, quiet=True)
    resume = False
    for calls, target in targets:
        status = run_killed(backend, data, work, resume=resume, calls=calls, target=target)
        assert status == -signal.SIGKILL
        state = load_state(find_state(work))  # whole, whatever the moment
        assert state.progress.step >= 1
        resume = True
    train(config, backend=backend, work_dir=work, resume=True, quiet=True)
    assert not list(work.rglob("*.tmp"))
    assert len([entry for entry in (work / "state").iterdir() if entry.is_dir()]) == 1
    np.testing.assert_allclose(losses(work), losses(whole), rtol=1e-6)
    assert_same_weights(work, whole)


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_kill_9_at_random_calls_and_moments(
    backend: str, kills: int, data: Path, tmp_path: Path
) -> None:
    if backend == "jittor" and kills == 2:
        pytest.skip("the same code on both backends; the slow test runs both")
    config = toy.config(data, train={"checkpoint_every": 1})
    whole = tmp_path / "whole"
    command = [sys.executable, str(TOY), backend, str(data)]
    done = subprocess.run(
        [*command, str(whole), "no", "0", "any"], capture_output=True, text=True, check=True
    )
    calls = int(done.stdout)
    assert calls > 100
    draw = random.Random(kills)
    work = tmp_path / "run-0"
    for kill in range(kills):
        words = [*command, str(work), "yes" if generations(work / "state") else "new"]
        if kill % 3:
            subprocess.run([*words, str(draw.randint(1, calls)), "any"], timeout=300)
        else:
            process = subprocess.Popen([*words, "0", "never"])
            _wait_for_work(process, work)
            time.sleep(draw.random() * 0.3)
            process.kill()
            process.wait(60)
        if kill % 3 == 2 or kill == kills - 1:
            saved = bool(generations(work / "state"))
            options: dict[str, Any] = {"resume": saved, "overwrite": not saved, "quiet": True}
            train(config, backend=backend, work_dir=work, **options)
            _assert_nothing_left_over(work, whole)
            work = tmp_path / f"run-{kill + 1}"


def _wait_for_work(process: subprocess.Popen[bytes], work: Path) -> None:
    while process.poll() is None and not (work / "metrics.jsonl").exists():
        time.sleep(0.01)


def _assert_nothing_left_over(work: Path, whole: Path) -> None:
    np.testing.assert_allclose(losses(work), losses(whole), rtol=1e-6)
    assert_same_weights(work, whole)
    assert _names(work) == _names(whole)


def _names(run: Path) -> list[str]:
    """All that lies in a run, without the random part of a state's name and TensorBoard's files."""
    names = [path.relative_to(run).as_posix() for path in run.rglob("*")]
    kept = [name for name in names if not name.startswith("events.out.")]
    return sorted(re.sub(r"step-(\d+)-[0-9a-f]{6}", r"step-\1", name) for name in kept)


def test_kill_9_while_training(backend: str, data: Path, tmp_path: Path) -> None:
    config = toy.config(data, train={"checkpoint_every": 1})
    whole, work = tmp_path / "whole", tmp_path / "killed"
    train(config, backend=backend, work_dir=whole, quiet=True)
    for attempt in range(2):
        words = [sys.executable, str(TOY), backend, str(data), str(work)]
        process = subprocess.Popen([*words, "yes" if attempt else "no", "0", "never"])
        wanted = 2 + 3 * attempt
        while process.poll() is None and len(_steps(work)) < wanted:
            time.sleep(0.001)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        assert len(_steps(work)) >= wanted
    train(config, backend=backend, work_dir=work, resume=True, quiet=True)
    np.testing.assert_allclose(losses(work), losses(whole), rtol=1e-6)
    assert_same_weights(work, whole)


def _steps(work: Path) -> list[str]:
    path = work / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_damaged_or_foreign_states_are_refused(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config, work = toy.config(data, train={"epochs": 1}), tmp_path / "run"
    options: dict[str, Any] = {"backend": "torch", "quiet": True, "resume": True}
    with pytest.raises(UserError, match="which holds none"):
        train(config, work_dir=work, **options)
    train(config, backend="torch", work_dir=work, quiet=True)
    with pytest.raises(UserError, match="Expected a new or empty folder"):
        train(config, backend="torch", work_dir=work, quiet=True)
    other = dataclasses.replace(
        config, model=dataclasses.replace(config.model, arguments={"dropout": 0.5})
    )
    with pytest.raises(UserError, match=r"model\.arguments"):
        train(other, work_dir=work, **options)
    changed = toy.config(data, train={"epochs": 2}, optimizer={"lr": 0.5e-2})
    assert train(changed, work_dir=work, **options).epochs == 2
    assert "changed since: optimizer.lr: 0.01 -> 0.005" in (work / "log.txt").read_text()
    weights = find_state(work) / checkpointing.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        train(changed, work_dir=work, **options)
    with pytest.raises(UserError, match="`overwrite`"):
        train(changed, work_dir=work, overwrite=True, **options)
    train(config, backend="torch", work_dir=work, overwrite=True, quiet=True)
    assert load_state(find_state(work)).progress.step == 4


def test_settings_of_the_data_may_change_between_epochs_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    config = toy.config(data, train={"checkpoint_every": 1})
    work = tmp_path / "run"
    interrupt(config, 2, monkeypatch, backend="torch", work_dir=work, quiet=True)
    larger = toy.config(data, data={"batch_size": 4})
    with pytest.raises(UserError, match=r"data\.batch_size.*within epoch 1"):
        train(larger, backend="torch", work_dir=work, resume=True, quiet=True)


def test_resume_from_another_run_leaves_it_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    config = toy.config(data)
    first, second = tmp_path / "first", tmp_path / "second"
    interrupt(config, 6, monkeypatch, backend="torch", work_dir=first, quiet=True)
    before = sorted(path.name for path in first.rglob("*"))
    options: dict[str, Any] = {"backend": "torch", "quiet": True}
    train(config, work_dir=second, resume=first / "last.safetensors", **options)
    assert sorted(path.name for path in first.rglob("*")) == before
    assert load_state(find_state(second)).progress.step == 12
    with pytest.raises(UserError, match="not empty"):
        train(config, work_dir=second, resume=first, **options)


def test_other_classes_than_the_saved_run_are_refused(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = ["disc", "ring", "star"]
    options: dict[str, Any] = {"backend": "torch", "work_dir": tmp_path / "run", "quiet": True}
    scenes = {"train_images": 4, "val_images": 2, "height": 64, "width": 64}
    for classes in (names, names[::-1]):
        config = toy.config(
            tmp_path / classes[0],
            data={"scenes": {**scenes, "classes": classes}},
            train={"epochs": 1 if classes is names else 2},
        )
        if classes is names:
            train(config, **options)
            continue
        with pytest.raises(UserError, match=r"`data.train`.*disc, ring, star.*star, ring, disc"):
            train(config, resume=True, **options)
    assert load_state(find_state(tmp_path / "run")).progress.epoch == 1
