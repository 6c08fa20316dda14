"""Half precision, the scaling of losses, and a network that PyTorch compiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from runs import assert_same_weights, interrupt, losses

from unidet.backends import nn, optim
from unidet.checkpoints.native import load_checkpoint
from unidet.cli.main import main
from unidet.config import dump_config
from unidet.engine import train
from unidet.engine.checkpointing import find_state, load_state
from unidet.engine.divergence import Diverged, DivergenceWatch
from unidet.engine.stepper import Stepper
from unidet.structures import Batch, Targets


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_trains_nearly_alike(
    torch: Any, amp: str, data: Path, tmp_path: Path
) -> None:
    for name in ("off", amp):
        chosen = toy.config(data, train={"amp": name})
        train(chosen, backend="torch", work_dir=tmp_path / name, quiet=True)
    full, half = losses(tmp_path / "off"), losses(tmp_path / amp)
    assert half == pytest.approx(full, rel=0.02) and half != full
    kinds = {v.dtype for v in load_checkpoint(tmp_path / amp / "last.safetensors").arrays.values()}
    assert kinds <= {np.dtype("float32"), np.dtype("int64")}


def test_the_scale_is_saved_and_resumed(
    torch: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.config(data, train={"checkpoint_every": 1, "amp": "fp16"})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config, backend="torch", work_dir=whole, quiet=True)
    interrupt(config, 6, monkeypatch, backend="torch", work_dir=parts, quiet=True)
    saved = load_state(find_state(parts)).progress.scaling
    assert saved["scale"] >= 1 and saved["steps"] in (5, 6)
    train(config, backend="torch", work_dir=parts, resume=True, quiet=True)
    assert load_state(find_state(parts)).progress.scaling["steps"] == 12
    assert_same_weights(whole, parts)


def batch() -> Batch:
    size = (16, 24)
    images = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    goals = [Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))] * 2
    return Batch(images, [size] * 2, [size] * 2, [(1.0, 1.0)] * 2, goals)


def test_a_step_that_overflows_is_left_out(torch: Any) -> None:
    toy.register()
    model = toy.Toy(num_classes=3, backend="torch")
    model.train()
    optimizer = optim.create("sgd", model, lr=0.1)
    stepper = Stepper(model, optimizer, clip_grad_norm=1.0, amp="fp16")
    watch = DivergenceWatch(100.0)
    stepper.step([batch()], 1.0, watch.check)
    optimizer.restore_scaling({"scale": 3e38, "steps": 0})
    before = nn.state_arrays(model)
    values = stepper.step([batch()], 1.0, watch.check)  # no divergence
    assert "grad_norm" not in values and np.isfinite(values["loss"])
    after = nn.state_arrays(model)
    for name in nn.parameters(model):
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert optimizer.loss_scale == pytest.approx(1.5e38)
    optimizer.restore_scaling({"scale": 1.0, "steps": 0})
    stepper.step([batch()], 1.0, watch.check)
    assert any((nn.state_arrays(model)[name] != after[name]).any() for name in after)
    # A scale that has fallen to nothing says that no scale helps.
    optimizer.restore_scaling({"scale": 1e-9, "steps": 0})
    with pytest.raises(Diverged):
        stepper.step([batch()], 1.0, watch.check)


def test_a_compiled_network_trains_alike(torch: Any, data: Path, tmp_path: Path) -> None:
    for name, compiled in (("plain", False), ("compiled", True)):
        # Not Adam: it would blow up what rounding makes of the bias before the norm.
        rule = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0}
        chosen = toy.config(data, train={"compile": compiled, "ema_decay": 0.9}, optimizer=rule)
        train(chosen, backend="torch", work_dir=tmp_path / name, quiet=True)
    assert_same_weights(tmp_path / "plain", tmp_path / "compiled", 1e-4)
    np.testing.assert_allclose(losses(tmp_path / "plain"), losses(tmp_path / "compiled"), rtol=1e-5)


@pytest.mark.parametrize("key", ["train.amp=bf16", "train.amp=fp16", "train.compile=true"])
def test_jittor_refuses_in_one_line(key: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("jittor_utils")
    toy.register()
    path = tmp_path / "toy.yaml"
    path.write_text(dump_config(toy.config()))
    words = ["train", str(path), "--backend", "jittor", "--set", key]
    assert main([*words, "--work-dir", str(tmp_path / "work")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and key.partition("=")[0] in told[0] and "torch" in told[0]
    assert not (tmp_path / "work" / "config.yaml").exists()
