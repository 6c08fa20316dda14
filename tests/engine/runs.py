"""What tests of runs share."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.checkpoints.native import load_checkpoint
from unidet.config import Config
from unidet.engine import train


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
