"""What fine-tuning asks of a run: the best weights at its end, smooth curves, watched measures."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from runs import interrupt, rows, stop_after

import unidet
from unidet.backends import nn, ops
from unidet.checkpoints.native import Checkpoint, load_checkpoint, write_checkpoint
from unidet.engine import train, trainer
from unidet.engine.checkpointing import find_state, load_state
from unidet.engine.setup import load_initial_weights
from unidet.engine.validation import validation_losses
from unidet.errors import UserError
from unidet.structures import Batch, Targets

LOSSES = {"losses": True}


def scripted(monkeypatch: pytest.MonkeyPatch, scores: Sequence[float]) -> None:
    """Evaluations that give AP50 the next of ``scores``."""
    original, left = trainer.evaluate, iter(scores)

    def evaluate(*args: Any) -> Any:
        result = original(*args)
        result.metrics["AP50"] = next(left)
        return result

    monkeypatch.setattr(trainer, "evaluate", evaluate)


def arrays(path: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(path).arrays


def assert_equal(one: Path, other: Path, *, equal: bool = True) -> None:
    same = [np.array_equal(value, arrays(other)[name]) for name, value in arrays(one).items()]
    assert all(same) is equal


def test_the_best_weights_become_the_final_ones(
    backend: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "run"
    options: dict[str, Any] = {"backend": backend, "work_dir": work, "quiet": True}
    chosen = {"best_metric": "AP50", "load_best_at_end": True}
    scripted(monkeypatch, [0.1, 0.5, 0.5, 0.2, 0.9])
    result = train(toy.config(data, train=chosen), **options)
    assert (result.best, result.best_step, result.metrics["AP50"]) == (0.5, 8, 0.5)
    assert result.weights == work / "final.safetensors"
    assert_equal(result.weights, work / "best.safetensors")
    assert_equal(result.weights, work / "last.safetensors", equal=False)
    assert load_checkpoint(result.weights).source["step"] == 8
    summary = json.loads((work / "evaluation.json").read_text())
    assert (summary["step"], summary["metrics"]["AP50"]) == (8, 0.5)
    assert "holds the best weights, of step 8" in (work / "log.txt").read_text()
    # What goes on is the last state, and an end of its own replaces the final weights.
    saved = load_state(find_state(work))
    assert saved.progress.step == 12
    assert_equal(find_state(work) / "weights.safetensors", work / "last.safetensors")
    longer = toy.config(data, train={**chosen, "epochs": 5})
    if backend == "torch":
        interrupt(longer, 16, monkeypatch, resume=True, **options)
        assert not (work / "final.safetensors").exists()
        result = train(longer, resume=True, **options)
        assert (result.best_step, load_checkpoint(result.weights).source["step"]) == (20, 20)


def test_without_a_finite_metric_the_last_weights_are_final(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    scripted(monkeypatch, [float("nan")] * 3)
    config = toy.config(data, train={"best_metric": "AP50", "load_best_at_end": True})
    result = train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)
    assert_equal(result.weights, tmp_path / "run/last.safetensors")
    assert "no evaluation has given a finite AP50" in (tmp_path / "run/log.txt").read_text()


@pytest.mark.parametrize("later", [False, True], ids=["its own past", "a later best"])
def test_a_run_that_goes_on_elsewhere_takes_its_best_along(
    later: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    first, second = tmp_path / "first", tmp_path / "second"
    config = toy.config(
        data,
        train={
            "best_metric": "AP50",
            "load_best_at_end": True,
            "eval_every_steps": 2,
            "eval_every": 0,
        },
    )
    scripted(monkeypatch, [0.3, 0.6, 0.9 if later else 0.1, *[0.2, 0.4, 0.1, 0.1]])
    # The state of step 4 is the last one when the run breaks off; step 6 was evaluated.
    interrupt(config, 6, monkeypatch, backend="torch", work_dir=first, quiet=True)
    assert load_state(find_state(first)).progress.step == 4
    result = train(config, backend="torch", work_dir=second, resume=first, quiet=True)
    if later:
        assert (result.best, result.best_step) == (0.4, 8)
    else:
        assert (result.best, result.best_step) == (0.6, 4)
        assert_equal(result.weights, first / "best.safetensors")
    assert load_checkpoint(result.weights).source["step"] == result.best_step


def test_a_last_step_that_was_evaluated_is_saved(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = stop_after(toy.config(data, train={"eval_every_steps": 3}), 3)
    train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)
    assert load_state(find_state(tmp_path / "run")).progress.step == 3


def events(work: Path) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of all scalars, in order, over all event files."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(work.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


def slider(values: list[float], weight: float) -> list[float]:
    """TensorBoard's smoothing."""
    last, found = 0.0, []
    for count, value in enumerate(values, start=1):
        last = last * weight + (1 - weight) * value
        found.append(last / (1 - weight**count))
    return found


def test_tensorboard_has_raw_and_smoothed_losses_over_a_resume(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    work = tmp_path / "run"
    config = toy.config(data, train={"checkpoint_every": 1}, evaluation=LOSSES)
    options: dict[str, Any] = {"backend": "torch", "work_dir": work, "quiet": True}
    interrupt(config, 6, monkeypatch, **options)
    train(config, resume=True, **options)
    found: dict[str, dict[int, float]] = {}
    for tag, step, value in events(work):
        found.setdefault(tag, {})[step] = value  # a step that was taken again counts once
    for raw, smooth in (
        ("train/loss", "train/loss_smooth"),
        ("train/loss/cls", "train/loss_smooth/cls"),
        ("eval/val_loss", "eval/val_loss_smooth"),
        ("eval/val_loss_size", "eval/val_loss_smooth_size"),
    ):
        values = list(found[raw].values())
        assert len(values) == (12 if raw.startswith("train") else 3)
        assert found[raw].keys() == found[smooth].keys()
        np.testing.assert_allclose(list(found[smooth].values()), slider(values, 0.6), rtol=1e-5)
    assert not [tag for tag in found if "smooth" in tag and "loss" not in tag]
    assert not any("smooth" in name for row in rows(work) for name in row)


def test_smoothing_can_be_left_out(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = stop_after(toy.config(data, train={"smoothing": 0}), 1)
    train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)
    tags = {tag for tag, _, _ in events(tmp_path / "run")}
    assert "train/loss" in tags and not any("smooth" in tag for tag in tags)


def test_the_number_of_trained_parameters_is_said_and_held(
    backend: str, data: Path, tmp_path: Path
) -> None:
    # Convolution 3 x 8 x 8 x 8 + 8, norm 16, head 8 x 6 + 6.
    options: dict[str, Any] = {"backend": backend, "quiet": True}
    freeze = {"freeze": ["body."], "max_steps": 1}
    config = toy.config(data, train={**freeze, "expect_trainable": 70})
    train(config, work_dir=tmp_path / "a", **options)
    assert "70 of 1,614 parameters train" in (tmp_path / "a/log.txt").read_text()
    wrong = toy.config(data, train={**freeze, "expect_trainable": 1614})
    with pytest.raises(UserError, match=r"`train\.expect_trainable`.*Expected 70.*Received 1614"):
        train(wrong, work_dir=tmp_path / "b", **options)
    assert not (tmp_path / "b").exists()


class Watching(toy.Toy):
    """Also counts the classes by which it misses, where there is anything to find."""

    def measures(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, float]:
        guessed = ops.to_numpy(outputs["logits"]) > 0
        held = [np.unique(target.labels) for target in targets]
        misses = [abs(int(row.sum()) - len(own)) for row, own in zip(guessed, held)]
        some = {"some_error": 1.0} if any(len(own) > 2 for own in held) else {}
        return {"count_error": float(np.mean(misses)), **some}


def test_measures_are_means_over_the_images(
    backend: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.Toy, "measures", Watching.measures, raising=False)
    chosen = {"best_metric": "val_count_error", "epochs": 2}
    config = toy.config(data, train=chosen, evaluation=LOSSES)
    kept: list[trainer.Trainer] = []
    original = trainer.Trainer._report_end
    monkeypatch.setattr(
        trainer.Trainer, "_report_end", lambda self: (kept.append(self), original(self))
    )
    result = train(config, backend=backend, work_dir=tmp_path / "run", quiet=True)
    found = [row["eval"]["val_count_error"] for row in rows(tmp_path / "run") if "eval" in row]
    assert result.best == min(found)
    model, batches = kept[0].model, list(kept[0].val_loader or [])
    assert [len(batch) for batch in batches] == [2, 1]
    model.eval()
    weights = ops.asarray(np.zeros(1, np.float32), backend=backend)
    each = []
    for batch in batches:
        logits = ops.to_numpy(model(ops.asarray(batch.images, like=weights))["logits"])
        for row, target in zip(logits, batch.targets):
            each.append(abs(int((row > 0).sum()) - len(set(target.labels.tolist()))))
    assert found[-1] == pytest.approx(np.mean(each))
    assert "val_loss_count_error" not in result.metrics
    parts = result.metrics["val_loss_cls"] + result.metrics["val_loss_size"]
    assert result.metrics["val_loss"] == pytest.approx(parts)


def test_a_measure_that_some_batches_lack_is_the_mean_of_the_others(data: Path) -> None:
    pytest.importorskip("torch")
    model = Watching(num_classes=3, backend="torch")

    def batch(*labels: Sequence[int]) -> Batch:
        targets = [
            Targets(np.zeros((len(own), 4), np.float32), np.array(own, np.int64)) for own in labels
        ]
        sizes = [(8, 8)] * len(labels)
        images = np.zeros((len(labels), 3, 8, 8), np.float32)
        return Batch(images, sizes, sizes, [(1.0, 1.0)] * len(labels), targets)

    found = validation_losses(model, [batch([0]), batch([0, 1, 2], []), batch([])])
    assert found["val_some_error"] == 1.0
    assert model.training


@pytest.mark.parametrize(
    ("metric", "losses", "message"),
    [
        ("val_loss_clss", True, r"Expected one of .*val_loss_cls.*Did you mean 'val_loss_cls'"),
        ("val_cardinality_error", True, r"Expected one of .*'val_cardinality_error'"),
        ("val_loss", False, r"Set evaluation\.losses=true"),
        ("eval_loss", False, r"Set evaluation\.losses=true"),
        ("eval_loss", True, r"Did you mean 'val_loss'"),
    ],
)
def test_names_of_metrics_are_looked_at_before_the_first_step(
    metric: str, losses: bool, message: str, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    config = toy.config(data, train={"best_metric": metric}, evaluation={"losses": losses})
    with pytest.raises(UserError, match=rf"`train\.best_metric`.*{message}"):
        train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_metric_of_a_plateau_is_looked_at_too(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = toy.config(
        data, schedule={"kind": "plateau", "metric": "val_loss_box"}, evaluation=LOSSES
    )
    with pytest.raises(UserError, match=r"`schedule\.metric`.*'val_loss_box'"):
        train(config, backend="torch", work_dir=tmp_path / "run", quiet=True)


def _weights_of_toy(path: Path, names: tuple[str, ...], value: float) -> Any:
    model = unidet.create_model(toy.NAME, backend="torch", num_classes=3, class_names=names)
    arrays = {
        name: np.full_like(a, value if a.dtype.kind == "f" else 0)
        for name, a in nn.state_arrays(model).items()
    }
    write_checkpoint(path, Checkpoint(arrays, model.config, names), overwrite=True)
    return model


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "a.safetensors"
    model = _weights_of_toy(path, ("a", "b", "c"), float("nan"))
    with pytest.raises(UserError, match=r"finite weights.*NaN or infinite in"):
        load_initial_weights(model, str(path))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("b", "a", "c"), "its class 0 is 'b', the data's is 'a'"),
        (("a", "b", "c"), None),
        (("x", "y", "z"), None),
    ],
)
def test_classes_in_another_order_are_told(
    names: tuple[str, ...], said: str | None, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "a.safetensors"
    _weights_of_toy(path, names, 0.5)
    model = unidet.create_model(
        toy.NAME, backend="torch", num_classes=3, class_names=("a", "b", "c")
    )
    line = load_initial_weights(model, str(path))
    assert said in line if said else "class" not in line.partition("safetensors")[2], line
