"""Training on real images: torch and Jittor from the same start, and across both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.config import Config, load_config
from unidet.engine import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("both")]

# Gentle enough that rounding does not grow by itself: at a rate of 0.005 with live batch norm, two
# runs of torch on one and on two threads are 2e-2 apart after 20 steps.
OPTIMIZERS = {
    "sgd": ["optimizer.name=sgd", "optimizer.lr=0.001", "optimizer.momentum=0.9"],
    "adam": ["optimizer.name=adam", "optimizer.lr=1e-5", "optimizer.weight_decay=0.0"],
}


def config(sample_data: Path, steps: int, *overrides: str) -> Config:
    fixed = [
        f"data.root={sample_data / 'data' / 'bccd'}",
        f"train.max_steps={steps}",
        "train.log_every=1",
        "train.eval_every=0",
        "schedule.kind=constant",  # the others stretch with the number of steps
        "model.arguments.norm_eval=true",
        "data.val=[]",
        "model.arguments.preprocess={resize: fixed, size: [120, 160]}",
        "model.arguments.anchor_sizes=[8, 16, 32, 64, 128]",
    ]
    return load_config("retinanet_r18_bccd", [*fixed, *overrides])


def curve(folder: Path) -> np.ndarray:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = {row["step"]: row["loss"] for row in rows if "loss" in row}
    return np.array([steps[step] for step in sorted(steps)])


def run(chosen: Config, folder: Path, backend: str, **options: Any) -> np.ndarray:
    train(chosen, backend=backend, work_dir=folder, quiet=True, **options)
    return curve(folder)


OPEN = pytest.mark.xfail(
    raises=AssertionError,
    strict=True,
    reason="open: with Adam the backends are 2.6e-3 apart within 20 steps, torch on one and on two "
    "threads 3.2e-4, so this is more than rounding that grows by itself",
)


@pytest.mark.parametrize("name", ["sgd", pytest.param("adam", marks=OPEN)])
def test_fifty_steps_overlay(name: str, sample_data: Path, tmp_path: Path) -> None:
    chosen = config(sample_data, 50, *OPTIMIZERS[name])
    torch = run(chosen, tmp_path / "torch", "torch")
    jittor = run(chosen, tmp_path / "jittor", "jittor")
    assert len(torch) == len(jittor) == 50
    apart = np.abs(torch - jittor) / np.abs(torch)
    print(
        f"\n{name}: loss {torch[0]:.3f} to {torch[-1]:.3f}; largest relative difference "
        f"{apart[:20].max():.1e} over 20 steps, {apart.max():.1e} over 50"
    )
    assert torch[-1] < torch[0]
    assert apart[:20].max() <= 1e-3
    assert apart.max() <= 0.02


@OPEN
@pytest.mark.parametrize(("first", "second"), [("torch", "jittor"), ("jittor", "torch")])
def test_a_run_goes_on_with_the_other_framework(
    first: str, second: str, sample_data: Path, tmp_path: Path
) -> None:
    chosen = OPTIMIZERS["adam"]
    whole = run(config(sample_data, 40, *chosen), tmp_path / "whole", second)
    run(config(sample_data, 20, *chosen), tmp_path / "moved", first)
    moved = run(config(sample_data, 40, *chosen), tmp_path / "moved", second, resume=True)
    assert len(whole) == len(moved) == 40
    apart = np.abs(whole - moved) / np.abs(whole)
    print(f"\n{first} to {second}: largest relative difference {apart.max():.1e} over 40 steps")
    assert apart.max() <= 1e-3
