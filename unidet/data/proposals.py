"""Given proposals, for models that classify boxes which something else has found."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.errors import UserError
from unidet.structures import Targets

if TYPE_CHECKING:
    from unidet.data.dataset import DetectionDataset

#: Marks proposals among the boxes of an image, while augmentations move both.
_MARK = -1


def read_proposals(path: str | Path, dataset: DetectionDataset) -> list[np.ndarray]:
    """Proposals of every image of a data set.

    Args:
        path: ``.json``, an object that gives each image id a list of ``[x1, y1, x2, y2]``, or
            ``.npz`` with an array ``(n, 4)`` named by each image id. Corners are in pixels of the
            original image, the best proposals first. No boxes is an empty list; ids of other
            images are passed over.
        dataset: whose images they are.

    Returns:
        ``(n, 4)`` float32 of each image, in its order.

    Raises:
        UserError: no such file, another form, an image without an entry, or corners that are no
            finite numbers.
    """
    path = Path(path)
    table = _read(path)
    found = []
    for record in dataset.images:
        if str(record.id) not in table:
            known = sum(str(one.id) in table for one in dataset.images)
            raise UserError(
                f"Invalid proposals {path}. Expected an entry for each image id of "
                f"{dataset.name}. Received none for {record.id} ({record.file_name}); "
                f"{known} of {len(dataset)} images have one."
            )
        found.append(_boxes(table[str(record.id)], record.id, path))
    return found


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"Proposals not found: {path}")
    if path.suffix not in (".json", ".npz"):
        raise UserError(f"Invalid proposals {path}. Expected a .json or .npz file.")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"Invalid proposals {path}. It cannot be read: {error}.") from None
    if not isinstance(table, dict):
        raise UserError(
            f"Invalid proposals {path}. Expected an object with a list of boxes for each image "
            f"id. Received {type(table).__name__}."
        )
    return table


def _boxes(rows: Any, image_id: int, path: Path) -> np.ndarray:
    try:
        boxes = np.asarray(rows, np.float32)
    except (TypeError, ValueError):
        boxes = np.full((1, 1), np.nan, np.float32)
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise UserError(
            f"Invalid proposals {path}. Expected rows of four finite numbers x1, y1, x2, y2 for "
            f"image {image_id}. Received an entry of another form."
        )
    return np.ascontiguousarray(boxes)


def with_proposals(targets: Targets, proposals: np.ndarray) -> Targets:
    """Objects and, behind them, proposals as marked boxes, so that both are moved alike."""
    count = len(proposals)
    rest = np.ones(count, bool)
    return Targets(
        np.concatenate([targets.boxes_xyxy, proposals]),
        np.concatenate([targets.labels, np.full(count, _MARK)]),
        np.concatenate([targets.crowd, ~rest]),
        np.concatenate([targets.ignore, rest]),
    )


def without_proposals(targets: Targets) -> tuple[Targets, np.ndarray]:
    """Takes apart again what :func:`with_proposals` joined: objects and proposals ``(n, 4)``."""
    given = targets.labels == _MARK
    objects = Targets(
        targets.boxes_xyxy[~given],
        targets.labels[~given],
        targets.crowd[~given],
        targets.ignore[~given],
    )
    return objects, targets.boxes_xyxy[given]
