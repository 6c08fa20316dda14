"""Annotation files in COCO form from other forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unidet.data.dataset import DetectionDataset
from unidet.data.images import write_bytes
from unidet.errors import UserError
from unidet.files.outputs import check_output, make_parent


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


def check_new(path: str | Path, *, overwrite: bool) -> Path:
    """The path, if it may be written.

    Raises:
        UserError: the file exists and may not be replaced, or the folder cannot be written.
    """
    check_output(path)
    if Path(path).exists() and not overwrite:
        raise UserError(f"File exists: {path}. Choose another name or pass --overwrite.")
    return Path(path)


def write_json(content: Any, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes JSON atomically, making the folder where needed."""
    path = check_new(path, overwrite=overwrite)
    make_parent(path)
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise UserError(f"Cannot write {path}: a value is NaN or infinite.") from None
    write_bytes(path, text.encode())
    return path
