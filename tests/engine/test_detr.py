"""A small DETR through a run, on generated scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from runs import assert_same_weights, interrupt, losses, rows

from unidet.checkpoints.native import load_checkpoint
from unidet.config import Config
from unidet.detector import Detector
from unidet.engine import train
from unidet.errors import UserError

ARGUMENTS: dict[str, Any] = {
    "width": 32,
    "heads": 4,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "feedforward": 48,
    "num_queries": 8,
    "preprocess": {"resize": "fixed", "size": [64, 96]},
}
QUIET = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
PARTS = {"loss/ce", "loss/bbox", "loss/ciou", "loss/ce_0", "loss/bbox_0", "loss/ciou_0"}


def config(data: Path, arguments: Any = None, **changes: dict[str, Any]) -> Config:
    """Six steps of 2 images in epochs of 4."""
    model = {
        "name": "detr_r18",
        "arguments": {**ARGUMENTS, "box_loss": "ciou", **(arguments or {})},
    }
    training = {"max_steps": 6, "clip_grad_norm": 0.1, **changes.pop("train", {})}
    optimizer = {
        "name": "adamw",
        "lr": 1e-3,
        "weight_decay": 1e-4,
        "groups": [{"match": ["backbone"], "lr": 1e-4}],
    }
    schedule = {"kind": "linear", "warmup_ratio": 0.2}
    return toy.config(
        data, model=model, train=training, optimizer=optimizer, schedule=schedule, **changes
    )


@pytest.mark.slow_on("jittor")
def test_a_run_and_its_detector(backend: str, data: Path, tmp_path: Path) -> None:
    chosen = config(data, train={"eval_every_steps": 3}, evaluation={"losses": True})
    result = train(chosen, backend=backend, work_dir=tmp_path / "a", quiet=True)
    first = next(row for row in rows(tmp_path / "a") if "loss" in row)
    assert first.keys() >= PARTS
    assert first["loss"] == pytest.approx(sum(first[part] for part in PARTS), rel=1e-5)
    expected = {"val_loss", "val_loss_ciou_0", "val_cardinality_error", "val_class_error", "AP"}
    assert expected <= result.metrics.keys()
    detector = Detector(tmp_path / "a" / "last.safetensors", backend=backend)
    picture = np.zeros((50, 70, 3), np.uint8)
    assert len(detector(picture, score_threshold=0.0)) == 8


@pytest.mark.slow_on("torch")
def test_a_broken_run_goes_on_with_the_same_dropout(
    backend: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config(data, train={"checkpoint_every": 1, "eval_every": 0})
    options: dict[str, Any] = {"backend": backend, "quiet": True}
    train(chosen, work_dir=tmp_path / "whole", **options)
    interrupt(chosen, 3, monkeypatch, work_dir=tmp_path / "broken", **options)
    train(chosen, work_dir=tmp_path / "broken", resume=True, **options)
    np.testing.assert_allclose(losses(tmp_path / "broken"), losses(tmp_path / "whole"), rtol=1e-5)
    assert_same_weights(tmp_path / "broken", tmp_path / "whole", rtol=1e-4)


@pytest.mark.usefixtures("both")
def test_the_backends_take_the_same_steps(data: Path, tmp_path: Path) -> None:
    chosen = config(data, QUIET, train={"eval_every": 0})
    for backend in ("torch", "jittor"):
        train(chosen, backend=backend, work_dir=tmp_path / backend, quiet=True)
    one, other = (losses(tmp_path / backend) for backend in ("torch", "jittor"))
    np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize("way", ["frozen_stages", "freeze"])
def test_a_frozen_backbone_keeps_its_bytes(
    way: str, backend: str, data: Path, tmp_path: Path
) -> None:
    held: dict[str, Any] = {"frozen_stages": 4} if way == "frozen_stages" else {}
    training = {"eval_every": 0, **({} if held else {"freeze": ["backbone"]})}
    for steps in (1, 6):
        chosen = config(data, held, train={**training, "max_steps": steps})
        train(chosen, backend=backend, work_dir=tmp_path / str(steps), quiet=True)
    before, after = (load_checkpoint(tmp_path / str(n) / "last.safetensors").arrays for n in (1, 6))
    for name, value in before.items():
        assert (value.tobytes() == after[name].tobytes()) is name.startswith("backbone."), name


def test_more_objects_than_queries_are_told(data: Path, tmp_path: Path, backend: str) -> None:
    chosen = config(data, {"num_queries": 1}, train={"max_steps": 1, "eval_every": 0})
    train(chosen, backend=backend, work_dir=tmp_path / "a", quiet=True)
    said = (tmp_path / "a" / "log.txt").read_text()
    assert "hold more objects, up to" in said and "num_queries = 1" in said


def test_a_count_that_differs_stops_the_run(data: Path, tmp_path: Path, backend: str) -> None:
    with pytest.raises(UserError, match="expect_trainable"):
        chosen = config(data, train={"expect_trainable": 5})
        train(chosen, backend=backend, work_dir=tmp_path / "a", quiet=True)
