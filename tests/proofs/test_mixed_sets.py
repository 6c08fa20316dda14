"""One model learns from three real data sets of different classes, with real text vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.backends import random
from unidet.config import from_mapping
from unidet.engine import train

pytestmark = pytest.mark.slow

SETS = ("bccd", "voc100", "coco_tiny")
#: Names of VOC for classes that COCO names otherwise.
SYNONYMS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def write_vectors(data: Path, folder: Path) -> dict[str, Path]:
    """CLIP's vectors of all names that COCO has; the others get any of the same length."""

    def names(name: str) -> list[str]:
        content = json.loads((data / name / "annotations" / "instances_train.json").read_text())
        return [category["name"] for category in content["categories"]]

    published = data / "clip_embeddings" / "coco_clip_a+cname_rn50_manyprompt.npy"
    known = dict(zip(names("coco_tiny"), np.load(published).astype(np.float32)))
    files = {}
    for name in SETS:
        rows = []
        for word in names(name):
            unknown = random.stream(0, word).standard_normal(1024).astype(np.float32) / 3
            rows.append(known.get(SYNONYMS.get(word, word), unknown))
        files[name] = folder / f"{name}.npy"
        np.save(files[name], np.stack(rows))
    return files


def config(data: Path, vectors: dict[str, Path]) -> Any:
    def source(name: str, part: str, count: int) -> dict[str, Any]:
        return {
            "annotations": str(data / name / "annotations" / f"instances_{part}.json"),
            "images": str(data / name / "images"),
            "embeddings": str(vectors[name]),
            "count": count,
        }

    return from_mapping(
        {
            "model": {
                "name": "unidetector_e2e_r50_c4",
                "arguments": {
                    "clip_layers": [1, 1, 1, 1],
                    "clip_width": 16,
                    "frozen_stages": -1,
                    "norm_eval": False,
                    "roi_size": 8,
                    "roi_batch": 32,
                    "rpn_post_nms_train": 300,
                    "rpn_post_nms_test": 100,
                    "preprocess": {"resize": "fixed", "size": [160, 160]},
                },
            },
            "data": {
                "train": [source(name, "train", 30) for name in SETS],
                "val": source("voc100", "val", 8),
                "batch_size": 4,
                "skip_empty": True,
            },
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "train": {"epochs": 3, "log_every": 1},
        }
    )


def test_losses_fall_and_agree(sample_data: Path, both: None, tmp_path: Path) -> None:
    data = sample_data / "data"
    run = config(data, write_vectors(data, tmp_path))
    losses, first = {}, {}
    for backend in ("torch", "jittor"):
        result = train(run, backend=backend, work_dir=tmp_path / backend, quiet=True)
        losses[backend] = result.epoch_losses
        lines = (tmp_path / backend / "metrics.jsonl").read_text().splitlines()
        first[backend] = [json.loads(line)["loss"] for line in lines[:3]]
        print(backend, [round(value, 4) for value in result.epoch_losses], first[backend])
        assert result.epoch_losses[-1] < 0.5 * result.epoch_losses[0]
        # The validation set is met with its own vocabulary, not with the first of the model.
        assert result.metrics["AP"] >= 0
    # The same start; later one proposal more or less is a jump (see test_two_stage.py).
    assert first["torch"][0] == pytest.approx(first["jittor"][0], rel=1e-5)
    assert losses["torch"][-1] == pytest.approx(losses["jittor"][-1], rel=0.2)
