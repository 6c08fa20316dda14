"""Small checkpoints of UniDetector and everything that gives them a vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.text.tiny import write_clip, write_vocabulary
from unidet.backends import nn
from unidet.checkpoints.native import save_checkpoint
from unidet.data import generate_scenes
from unidet.models import create_model

#: Length of a text vector; that of the small CLIP too.
LENGTH = 12
NAMES = ("disc", "square")
INPUT = {"resize": "fixed", "size": [64, 96]}
SMALL: dict[str, Any] = {
    "clip_layers": (1, 1, 1, 1),
    "clip_width": 8,
    "embedding_dim": LENGTH,
    "roi_size": 4,
    "num_classes": len(NAMES),
    "score_threshold": 0.0,
    "soft_nms": None,
    "nms_iou": 1.0,  # drops nothing, so that results can be counted
    "preprocess": INPUT,
}
E2E = {**SMALL, "rpn_post_nms_test": 12}
CLN = {"fpn_channels": 16, "head_channels": 16, "preprocess": INPUT, "max_detections": 15}
#: Weights that are drawn wider, so that boxes and scores differ from place to place.
_SPREAD = ("rpn.cls_out.weight", "rpn.quality_out.weight", "head.cls_out.weight")


def vectors(count: int, length: int = LENGTH, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, length)).astype(np.float32)


def build(name: str, backend: str, names: tuple[str, ...] = (), **arguments: Any) -> Any:
    """A small model with a vocabulary of drawn vectors where there are names."""
    model = create_model(name, backend=backend, seed=1, **arguments)
    rng = np.random.default_rng(3)
    drawn = {
        key: rng.normal(0, 0.5, array.shape).astype(np.float32)
        for key, array in nn.state_arrays(model).items()
        if key in _SPREAD
    }
    if "cln" in name:
        drawn["rpn.box_out.bias"] = np.ones(4, np.float32)  # boxes of some size
    nn.load_arrays(model, drawn, strict=False)
    if names:
        model.set_vocabulary(names, vectors(len(names)))
    return model


def write_all(folder: Path, backend: str) -> Path:
    """A folder with checkpoints, a CLIP, its file of merges, and four scenes of six classes."""
    stage2 = {key: value for key, value in SMALL.items() if not key.startswith("rpn_")}
    models = {
        "e2e": build("unidetector_e2e_r50_c4", backend, NAMES, **E2E),
        "empty": build("unidetector_e2e_r50_c4", backend, **E2E),
        "stage2": build("unidetector_stage2_r50_c4", backend, NAMES, **stage2),
        "cln": build("unidetector_cln_r18_fpn", backend, **CLN),
    }
    for name, model in models.items():
        save_checkpoint(folder / f"{name}.safetensors", model)
    write_clip(folder, backend)
    write_vocabulary(folder)
    generate_scenes(folder / "d", 4, size=(64, 96), seed=1)
    return folder


def write_vectors(path: Path, names: tuple[str, ...] | None, rows: np.ndarray) -> Path:
    """A file of vectors, with names beside it where there are any."""
    np.save(path, rows)
    if names is not None:
        path.with_suffix(".json").write_text(json.dumps({"names": list(names)}))
    return path
