"""A small model, a checkpoint of it and a few generated photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.backends import nn
from unidet.checkpoints.native import save_checkpoint
from unidet.models import create_model
from unidet.visualization import write_image

NAMES = ("cat", "dog", "bus")
SMALL = {
    "num_classes": len(NAMES),
    "class_names": NAMES,
    "fpn_channels": 16,
    "head_channels": 16,
    "head_depth": 1,
    "head_groups": 4,
    "score_threshold": 0.001,
    "preprocess": {"resize": "fixed", "size": [64, 96]},
}


def confident_arrays(model: Any) -> dict[str, np.ndarray]:
    """Seeded weights whose answers differ from place to place and pass the threshold."""
    arrays = nn.state_arrays(model)
    rng = np.random.default_rng(3)
    weight = arrays["head.cls_out.weight"]
    arrays["head.cls_out.weight"] = rng.normal(0, 0.5, weight.shape).astype(np.float32)
    return arrays


@pytest.fixture
def small_model(backend: str) -> Any:
    model = create_model("retinanet_r18_fpn", backend=backend, **SMALL)
    nn.load_arrays(model, confident_arrays(model))
    return model


@pytest.fixture
def checkpoint(small_model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_model)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folder with two photos and ``annotations.json`` in COCO form."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (height, width) in enumerate(((64, 96), (80, 60)), start=1):
        write_image(folder / f"{number}.png", rng.integers(0, 256, (height, width, 3), np.uint8))
        images.append(
            {"id": 10 * number, "file_name": f"{number}.png", "height": height, "width": width}
        )
        annotations.append(
            {
                "id": number,
                "image_id": 10 * number,
                "category_id": 5,
                "bbox": [8, 8, 30, 40],
                "area": 1200,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 5 + i, "name": name} for i, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder
