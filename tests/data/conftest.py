"""Small data made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unidet.data import DetectionDataset, generate_scenes, load_coco


@pytest.fixture(scope="session")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten generated scenes of 96 x 128 pixels."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(folder, 10, size=(96, 128), seed=5)
    return folder


@pytest.fixture
def scenes(scenes_dir: Path) -> DetectionDataset:
    return load_coco(scenes_dir / "annotations.json", scenes_dir / "images", name="scenes")


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A sound COCO file of two images, with sparse category ids out of order."""
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "b.png", "width": 20, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1.5, 2, 10, 5.25]},
            {
                "id": 2,
                "image_id": 7,
                "category_id": 4,
                "bbox": [0, 0, 4, 4],
                "iscrowd": 1,
                "area": 9,
            },
        ],
        "categories": [{"id": 90, "name": "brush"}, {"id": 4, "name": "plane"}],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a JSON value, or text as it is, and returns the path."""

    def write_file(content: Any) -> Path:
        path = tmp_path / "annotations.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_file
