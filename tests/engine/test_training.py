"""Runs: what they leave, that resuming equals not having stopped, and how they fail."""

from __future__ import annotations

import dataclasses
import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from unidet.checkpoint import load_checkpoint
from unidet.config import Config
from unidet.engine import checkpointing, train
from unidet.engine.checkpointing import find_state, load_state
from unidet.errors import RunFailedError, UserError

TOY = Path(toy.__file__)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy.register()
    return tmp_path_factory.mktemp("scenes")


def rows(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]


def losses(work: Path) -> list[float]:
    return [row["loss"] for row in rows(work) if "loss" in row]


def stop_after(config: Config, steps: int) -> Config:
    """The same run cut short, as a kill would: the schedule keeps its full length."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, max_steps=steps))


def assert_same_weights(one: Path, other: Path, rtol: float = 1e-6) -> None:
    first = load_checkpoint(one / "last.safetensors").arrays
    second = load_checkpoint(other / "last.safetensors").arrays
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=rtol, atol=1e-7, err_msg=name)


def interrupt(config: Config, step: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Trains until ``step`` steps were taken and saved, then breaks off."""
    from unidet.engine.trainer import Trainer

    original = Trainer._after_step

    def after(self: Trainer) -> None:
        original(self)
        if self.progress.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_after_step", after)
        train(config, **options)


def test_a_run_leaves_a_complete_folder(backend: str, data: Path, tmp_path: Path) -> None:
    work = tmp_path / "run"
    result = train(toy.config(data), backend=backend, work_dir=work, quiet=True)
    assert (result.epochs, result.steps, len(result.epoch_losses)) == (3, 12, 3)
    assert result.epoch_losses[-1] < result.epoch_losses[0]
    for name in (
        "config.yaml",
        "log.txt",
        "last.safetensors",
        "best.safetensors",
        "evaluation.json",
        "detections.json",
        "loss_curve.png",
        "state/current",
    ):
        assert (work / name).stat().st_size > 0, name
    assert list(work.glob("events.out.tfevents.*"))
    assert not list(work.rglob("*.tmp"))
    train_rows = [row for row in rows(work) if "loss" in row]
    assert [row["step"] for row in train_rows] == list(range(1, 13))
    assert {"loss", "loss/cls", "loss/size", "grad_norm", "lr", "epoch"} <= set(train_rows[0])
    for row in train_rows:
        assert row["loss"] == pytest.approx(row["loss/cls"] + row["loss/size"], rel=1e-5)
    assert [row["step"] for row in rows(work) if "eval" in row] == [4, 8, 12]
    assert result.metrics["AP"] == rows(work)[-1]["eval"]["AP"]
    best = load_checkpoint(work / "best.safetensors")
    assert best.model["name"] == "toy" and best.source["backend"] == backend
    assert best.source["metrics"]["AP"] == result.best


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


def run_killed(data: Path, work: Path, *, resume: bool, calls: int, target: str) -> int:
    words = ["torch", str(data), str(work), "yes" if resume else "no", str(calls), target]
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
    targets: list[tuple[int, str]], data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    config = toy.config(data, train={"checkpoint_every": 1})
    whole, work = tmp_path / "whole", tmp_path / "killed"
    train(config, backend="torch", work_dir=whole, quiet=True)
    resume = False
    for calls, target in targets:
        assert run_killed(data, work, resume=resume, calls=calls, target=target) == -signal.SIGKILL
        state = load_state(find_state(work))  # whole, whatever the moment
        assert state.progress.step >= 1
        resume = True
    train(config, backend="torch", work_dir=work, resume=True, quiet=True)
    assert not list(work.rglob("*.tmp"))
    assert len([entry for entry in (work / "state").iterdir() if entry.is_dir()]) == 1
    np.testing.assert_allclose(losses(work), losses(whole), rtol=1e-6)
    assert_same_weights(work, whole)


def test_kill_9_while_training(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = toy.config(data, train={"checkpoint_every": 1})
    whole, work = tmp_path / "whole", tmp_path / "killed"
    train(config, backend="torch", work_dir=whole, quiet=True)
    for attempt in range(2):
        words = [sys.executable, str(TOY), "torch", str(data), str(work)]
        process = subprocess.Popen([*words, "yes" if attempt else "no", "0", "never"])
        wanted = 2 + 3 * attempt
        while process.poll() is None and len(_steps(work)) < wanted:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        assert len(_steps(work)) >= wanted
    train(config, backend="torch", work_dir=work, resume=True, quiet=True)
    np.testing.assert_allclose(losses(work), losses(whole), rtol=1e-6)
    assert_same_weights(work, whole)


def _steps(work: Path) -> list[str]:
    path = work / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_accumulation_equals_the_large_batch(
    backend: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Batch statistics differ between small and large batches, so the norm layer is left out.
    monkeypatch.setattr(toy.Toy, "forward", _without_norm)
    large = toy.config(data, data={"batch_size": 4})
    small = toy.config(data, data={"batch_size": 2}, train={"accumulate": 2})
    one = train(large, backend=backend, work_dir=tmp_path / "large", quiet=True)
    two = train(small, backend=backend, work_dir=tmp_path / "small", quiet=True)
    assert one.steps == two.steps == 6
    np.testing.assert_allclose(two.epoch_losses, one.epoch_losses, rtol=1e-5)
    assert_same_weights(tmp_path / "large", tmp_path / "small", rtol=1e-4)


def _without_norm(self: toy.Toy, images: Any) -> dict[str, Any]:
    from unidet.backends import ops

    features = ops.relu(self.body(images))
    pooled = ops.mean(ops.reshape(features, (*ops.shape(features)[:2], -1)), axis=2)
    return {"logits": self.head(pooled)}


def test_a_rest_of_an_epoch_still_makes_a_step(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = toy.config(data, train={"accumulate": 3, "epochs": 1})
    result = train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)
    assert (result.steps, result.epochs) == (2, 1)


def test_freezing_keeps_parameters(backend: str, data: Path, tmp_path: Path) -> None:
    options = {"backend": backend, "quiet": True}
    config = toy.config(data, train={"freeze": ["body.", "norm."], "epochs": 1})
    train(stop_after(toy.config(data), 1), work_dir=tmp_path / "a", **options)
    train(config, work_dir=tmp_path / "b", **options)
    from unidet.models import create_model

    class_names = load_checkpoint(tmp_path / "b/last.safetensors").class_names
    fresh = create_model("toy", backend=backend, seed=5, num_classes=len(class_names))
    from unidet.backends import nn

    start = nn.state_arrays(fresh)
    trained = load_checkpoint(tmp_path / "b/last.safetensors").arrays
    for name in ("body.weight", "body.bias", "norm.weight", "norm.bias"):
        np.testing.assert_array_equal(trained[name], start[name])
    assert not np.array_equal(trained["head.weight"], start["head.weight"])
    with pytest.raises(UserError, match=r"train\.freeze"):
        train(toy.config(data, train={"freeze": ["bodi."]}), work_dir=tmp_path / "c", **options)


def test_best_follows_any_metric_in_either_direction(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = toy.config(
        data,
        train={"best_metric": "val_loss", "best_mode": "min", "eval_every_steps": 2},
        evaluation={"losses": True},
    )
    result = train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)
    found = {row["step"]: row["eval"] for row in rows(tmp_path / "run") if "eval" in row}
    assert sorted(found) == [2, 4, 6, 8, 10, 12]
    values = {step: metrics["val_loss"] for step, metrics in found.items()}
    assert result.best == min(values.values())
    assert result.best_step == min(values, key=lambda step: values[step])
    for metrics in found.values():
        parts = metrics["val_loss_cls"] + metrics["val_loss_size"]
        assert metrics["val_loss"] == pytest.approx(parts)
    bad = toy.config(data, train={"best_metric": "AP500"})
    with pytest.raises(UserError, match="Did you mean 'AP50'"):
        train(bad, backend="torch", work_dir=tmp_path / "bad", quiet=True)


def test_plateau_lowers_the_rate(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = toy.config(
        data,
        schedule={"kind": "plateau", "patience": 0, "mode": "max", "gamma": 0.5},
        optimizer={"lr": 1e-3},
        train={"epochs": 4},
    )
    train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)
    rates = [row["lr"] for row in rows(tmp_path / "run") if "lr" in row]
    # The loss falls, which is no progress where more is better: every epoch but the first drops.
    assert rates == pytest.approx([1e-3] * 8 + [5e-4] * 4 + [2.5e-4] * 4)


def test_weights_start_a_run_and_what_was_left_out_is_said(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    train(toy.config(data), backend="torch", work_dir=tmp_path / "first", quiet=True)
    config = toy.config(data, train={"weights": str(tmp_path / "first/best.safetensors")})
    train(stop_after(config, 1), backend="torch", work_dir=tmp_path / "second", quiet=True)
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0]
    assert "tensors taken" in (tmp_path / "second/log.txt").read_text()
    missing = toy.config(data, train={"weights": "nowhere.safetensors"})
    with pytest.raises(UserError, match=r"nowhere\.safetensors"):
        train(missing, backend="torch", work_dir=tmp_path / "third", quiet=True)
    assert not (tmp_path / "third").exists()


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
    original, calls = Path.write_bytes, 0

    def full(self: Path, content: bytes) -> int:
        nonlocal calls
        if "optimizer.safetensors" in self.name:
            calls += 1
            if calls == 2:
                original(self, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunFailedError, match="No space left on device"):
        train(toy.config(data), backend="torch", work_dir=work, quiet=True)
    assert load_state(find_state(work)).progress.step == 4
    assert not list(work.rglob("*.tmp"))
    assert len(list((work / "state").iterdir())) == 2
    assert load_checkpoint(work / "last.safetensors").source["step"] == 4
    monkeypatch.setattr(Path, "write_bytes", original)
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
    from unidet.checkpoint import read_arrays, write_arrays

    path, arrays = tmp_path / "x.safetensors", {"a": np.ones(2, np.float32)}
    write_arrays(path, arrays, {"text": ""})
    shortest = int.from_bytes(path.read_bytes()[:8], "little")
    write_arrays(path, arrays, {"text": "x" * (header - shortest)})
    assert path.read_bytes()[:8] == header.to_bytes(8, "little")
    assert read_arrays(path)[0]["a"].tolist() == [1, 1]


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
    (find_state(work) / checkpointing.PROGRESS).write_text("{")
    with pytest.raises(UserError, match=r"progress\.json"):
        train(changed, work_dir=work, **options)
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


def test_mixed_precision(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = toy.config(data, train={"amp": "bf16"})
    train(config, backend="torch", work_dir=tmp_path / "amp", quiet=True)
    train(toy.config(data), backend="torch", work_dir=tmp_path / "full", quiet=True)
    half, full = losses(tmp_path / "amp"), losses(tmp_path / "full")
    np.testing.assert_allclose(half, full, rtol=0.03)
    assert half != full
    weights = load_checkpoint(tmp_path / "amp/last.safetensors").arrays
    assert weights["head.weight"].dtype == np.float32


def test_mixed_precision_is_refused_where_there_is_none(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("jittor_utils")
    config = toy.config(data, train={"amp": "bf16"})
    with pytest.raises(ValueError, match=r"train\.amp.*jittor"):
        train(config, backend="jittor", work_dir=tmp_path / "amp", quiet=True)
    assert not (tmp_path / "amp").exists()
