"""Runs: what they leave behind, and what each option of training does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from runs import assert_same_weights, losses, rows, stop_after

from tests.frameworks import needs_jittor
from unidet.backends import available
from unidet.checkpoints.native import load_checkpoint
from unidet.data.transforms import RandomZoom, VerticalFlip, active
from unidet.engine import train
from unidet.engine.run_folder import RunFolder
from unidet.engine.trainer import Trainer
from unidet.errors import UserError


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


def test_the_moving_average_starts_from_the_given_weights(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    train(toy.config(data), backend="torch", work_dir=tmp_path / "first", quiet=True)
    given = tmp_path / "first/last.safetensors"
    config = toy.config(
        data,
        optimizer={"lr": 0.0},
        train={"weights": str(given), "ema_decay": 0.99, "max_steps": 1},
    )
    train(config, backend="torch", work_dir=tmp_path / "second", quiet=True)
    average = load_checkpoint(tmp_path / "second/last_ema.safetensors").arrays
    for name, value in load_checkpoint(given).arrays.items():
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_allclose(average[name], value, rtol=1e-6)


def test_weights_start_a_run_and_what_was_left_out_is_said(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    train(toy.config(data), backend="torch", work_dir=tmp_path / "first", quiet=True)
    config = toy.config(data, train={"weights": str(tmp_path / "first/best.safetensors")})
    train(stop_after(config, 1), backend="torch", work_dir=tmp_path / "second", quiet=True)
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0]
    assert "matched" in (tmp_path / "second/log.txt").read_text()
    missing = toy.config(data, train={"weights": "nowhere.safetensors"})
    with pytest.raises(UserError, match=r"nowhere\.safetensors"):
        train(missing, backend="torch", work_dir=tmp_path / "third", quiet=True)
    assert not (tmp_path / "third").exists()


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


@needs_jittor
def test_mixed_precision_is_refused_where_there_is_none(data: Path, tmp_path: Path) -> None:
    config = toy.config(data, train={"amp": "bf16"})
    with pytest.raises(ValueError, match=r"train\.amp.*jittor"):
        train(config, backend="jittor", work_dir=tmp_path / "amp", quiet=True)
    assert not (tmp_path / "amp").exists()


def test_augmentations_of_the_config_rest_after_their_epochs(data: Path, tmp_path: Path) -> None:
    always, first = {"name": "vertical_flip"}, {"name": "random_zoom", "epochs": 2}
    config = toy.config(data, data={"augmentations": [always, first]})
    backend = available()[0]
    loader = Trainer(config, RunFolder(tmp_path / "run"), backend=backend, device="cpu").loader
    kinds = [[type(a) for a in active(loader.augmentations, epoch)] for epoch in range(3)]
    assert kinds == [[VerticalFlip, RandomZoom]] * 2 + [[VerticalFlip]]
