"""Annotation files in COCO form from other forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unidet.data.dataset import DetectionDataset
from unidet.data.images import write_bytes
from unidet.errors import UserError


def write_coco(dataset: DetectionDataset, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes a data set as one COCO-form JSON file; images stay where they are.

    Ignored objects (VOC's ``difficult``) carry ``"ignore": 1``.

    Args:
        dataset: what to write.
        path: the file.
        overwrite: replace an existing file.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    return write_json(dataset.to_coco(), path, overwrite=overwrite)


def write_json(content: dict[str, Any], path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes JSON atomically, making the folder where needed."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise UserError(f"File exists: {path}. Choose another name or allow overwriting.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from None
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise UserError(f"Cannot write {path}: a value is NaN or infinite.") from None
    write_bytes(path, text.encode())
    return path
