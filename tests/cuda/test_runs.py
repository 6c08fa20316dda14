"""The commands on the GPU: train, go on on the CPU, evaluate on both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unidet.cli.main import main

SCENES = """
model:
  name: retinanet_r18_fpn
  arguments:
    fpn_channels: 32
    head_depth: 1
    anchor_sizes: [12, 24, 48, 96, 192]
    preprocess: {resize: none}
data:
  format: scenes
  scenes: {train_images: 320, val_images: 32, height: 96, width: 128, max_objects: 4}
  batch_size: 8
optimizer: {name: adamw, lr: 1e-3}
schedule: {kind: constant}
train: {epochs: 4, clip_grad_norm: 1.0, log_every: 10}
"""
DATA = ["--data", "run/data/val/annotations.json", "--images", "run/data/val/images"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("scenes.yaml").write_text(SCENES)
    return "scenes.yaml"


def losses(run: str) -> list[float]:
    rows = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_run_learns_and_its_checkpoint_works_on_both_devices(
    config: str, amp: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", config, "--backend", "torch", "--device", "cuda", "--work-dir", "run"]
    assert main([*words, "--set", f"train.amp={amp}"]) == 0
    curve = losses("run")
    assert np.isfinite(curve).all() and np.mean(curve[-3:]) < 0.7 * np.mean(curve[:3])
    capsys.readouterr()
    found = []
    for device in ("cpu", "cuda"):
        arguments = ["eval", "run/last.safetensors", *DATA, "--device", device]
        assert main([*arguments, "--backend", "torch", "--json", f"{device}.json"]) == 0
        found.append(json.loads(Path(f"{device}.json").read_text()))
    cpu, gpu = ([one["metrics"][key] for key in ("AP", "AP50", "AR100")] for one in found)
    assert cpu[1] > 0.1
    np.testing.assert_allclose(gpu, cpu, atol=0.005)


def test_a_run_goes_on_where_the_device_is_another(config: str) -> None:
    """Cut in two on two devices: the next step has the same data and nearly the same loss."""
    shared = ["--backend", "torch", "--set", "train.log_every=1"]
    whole = ["train", config, "--work-dir", "whole", "--device", "cuda", *shared]
    assert main([*whole, "--set", "train.max_steps=24"]) == 0
    first = ["train", config, "--work-dir", "cut", "--device", "cuda", *shared]
    assert main([*first, "--set", "train.max_steps=20"]) == 0
    further = ["train", "--work-dir", "cut", "--resume", "--device", "cpu", *shared]
    assert main([*further, "--set", "train.max_steps=24"]) == 0
    whole_run, cut = losses("whole"), losses("cut")
    assert len(whole_run) == len(cut) == 24
    # Sums of gradients on a GPU have no fixed order, and two runs part by 5 % in 20 steps.
    np.testing.assert_allclose(cut[:3], whole_run[:3], rtol=1e-3)
    np.testing.assert_allclose(cut[:22], whole_run[:22], rtol=0.1)
