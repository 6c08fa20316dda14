"""Writes the files of this folder. Run with unidet at commit bdea3a9, in this folder.

Weights repeat a short table, so that 45 MB pack into some KB and yet every layer computes
something.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import lzma
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from unidet import Detector
from unidet.backends import nn
from unidet.checkpoint import save_checkpoint
from unidet.config import Config, from_mapping
from unidet.engine import train
from unidet.engine.trainer import Trainer
from unidet.models import MODELS, create_model
from unidet.models.factory import CONFIGS
from unidet.models.resnet import ResNet

PHOTO = {"resize": "none", "pad_divisor": 32}
SMALL = {"norm": "frozen", "preprocess": PHOTO}
ANCHORS = [[8.0], [16.0], [32.0], [64.0], [128.0]]
RETINANET = {
    **SMALL, "frozen_stages": 4, "fpn_channels": 8, "head_channels": 8, "head_depth": 1,
    "head_groups": 4, "anchor_sizes": ANCHORS, "score_threshold": 0.0,
}  # fmt: skip
RPN = {**SMALL, "fpn_channels": 8, "anchor_sizes": ANCHORS}
SMALL_DETR = {"width": 16, "heads": 2, "feedforward": 16, "encoder_layers": 1,
              "decoder_layers": 1, "num_queries": 9, "preprocess": PHOTO}  # fmt: skip
CLIP = {"clip_layers": (1, 1, 1, 1), "clip_width": 16, "embedding_dim": 32, "roi_size": 8}
SMALL_MODELS = {
    "retinanet_r18_fpn": RETINANET,
    "retinanet_r18_fpn_mmdet": RETINANET,
    "faster_rcnn_r18_fpn": {**RPN, "head_channels": 16},
    "fast_rcnn_r18_fpn": {**SMALL, "fpn_channels": 8, "head_channels": 16},
    "detr_r18": SMALL_DETR,
    "unidetector_cln_r18_fpn": {"preprocess": PHOTO},
    "unidetector_e2e_r50_c4": CLIP,
    "unidetector_stage2_r50_c4": CLIP,
}
#: Of these detections are recorded; the others need boxes or text from elsewhere.
DETECTING = ("retinanet", "faster_rcnn", "detr", "unidetector_cln")
HERE = Path()


def pattern(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights of sensible size from a table of 251 numbers; all else stays."""
    table = np.random.default_rng(0).standard_normal(251).astype(np.float32)
    return {
        name: np.resize(table, a.shape) * np.float32(0.8 / np.sqrt(a[0].size)) if a.ndim > 1 else a
        for name, a in arrays.items()
    }


def write_model(name: str, arguments: dict) -> None:
    classes = {} if "cln" in name else {"num_classes": 3, "class_names": ("a", "b", "c")}
    model = create_model(name, backend="torch", seed=0, **classes, **arguments)
    nn.load_arrays(model, pattern(nn.state_arrays(model)))
    save_checkpoint(HERE / f"{name}.safetensors", model, source={"commit": "bdea3a9"})


def run_config(weights: Path) -> Config:
    """Eight steps."""
    return from_mapping(
        {
            "model": {"name": "retinanet_r18_fpn", "arguments": RETINANET},
            "data": {
                "format": "scenes",
                "scenes": {"train_images": 8, "val_images": 2, "height": 64, "width": 64,
                           "max_objects": 3},
                "batch_size": 2,
            },
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "train": {"epochs": 2, "checkpoint_every": 1, "ema_decay": 0.9, "log_every": 1,
                      "weights": str(weights)},
        }
    )  # fmt: skip


def break_off(config: Config, step: int) -> None:
    """A run that is interrupted after a step."""
    original = Trainer._after_step

    def after(self: Trainer) -> None:
        original(self)
        if self.progress.step == step:
            raise KeyboardInterrupt

    Trainer._after_step = after
    with contextlib.suppress(KeyboardInterrupt):
        train(config, backend="torch", work_dir=HERE / "run", quiet=True)


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def signature_of(made: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(made).parameters)


def arguments_of_models() -> dict[str, dict[str, Any]]:
    """Every argument with its default, of one model for each set of arguments."""
    found: dict[tuple[str, ...], tuple[str, dict[str, Any]]] = {}
    for name, spec in MODELS.items():
        if spec.accepts and spec.accepts not in found:
            made = CONFIGS.get(spec.constructor, spec.constructor.__init__)
            # A classifier hands most of its arguments on.
            signature = {**signature_of(ResNet.__init__), **signature_of(made)}
            defaults = {key: p.default for key, p in signature.items()} | dict(spec.defaults)
            given = {key: 3 if key == "num_classes" else defaults[key] for key in spec.accepts}
            found[spec.accepts] = name, given
    return dict(found.values())


if __name__ == "__main__":
    target = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        arguments = json.dumps(arguments_of_models(), indent=1)
        (target / "arguments.json").write_text(arguments + "\n")
        photo = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        found = {"photo": photo}
        for name, arguments in SMALL_MODELS.items():
            write_model(name, arguments)
            checkpoint = HERE / f"{name}.safetensors"
            if name.startswith(DETECTING):
                detections = Detector(checkpoint, backend="torch")(photo, score_threshold=0)[:20]
                found[f"{name} boxes"] = detections.boxes_xyxy
                found[f"{name} scores"] = detections.scores
                found[f"{name} labels"] = detections.labels
            packed = lzma.compress(checkpoint.read_bytes(), preset=9)
            (target / f"{name}.safetensors.xz").write_bytes(packed)
        config = run_config(HERE / "retinanet_r18_fpn.safetensors")
        train(config, backend="torch", work_dir=HERE / "whole", quiet=True)
        np.savez_compressed(target / "detections.npz", **found, losses=losses(HERE / "whole"))
        break_off(config, 5)
        for events in Path("run").glob("events.*"):
            events.unlink()
        with tarfile.open(target / "run.tar.xz", "w:xz", preset=9) as archive:
            archive.add("run")
