"""Category counts of a data set: UniDetector's ``_cat_info.json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.errors import UserError
from unidet.files.numbers import is_id
from unidet.files.reading import read_json
from unidet.files.shown import shown

if TYPE_CHECKING:
    from unidet.data.dataset import DetectionDataset


def count_frequencies(dataset: DetectionDataset) -> list[dict[str, Any]]:
    """Categories by id, each with ``image_count`` and ``instance_count``; crowds count too."""
    images = np.zeros(dataset.num_classes, np.int64)
    instances = np.zeros(dataset.num_classes, np.int64)
    for entry in dataset.annotations:
        np.add.at(instances, entry.labels, 1)
        images[np.unique(entry.labels)] += 1
    categories = dataset.categories or [
        {"id": i, "name": n} for i, n in zip(dataset.category_ids, dataset.class_names)
    ]
    entries = [
        {**category, "image_count": int(n), "instance_count": int(m)}
        for category, n, m in zip(categories, images, instances)
    ]
    return sorted(entries, key=lambda entry: entry["id"])


def read_frequencies(path: str | Path, dataset: DetectionDataset) -> np.ndarray:
    """Images that hold each class.

    Args:
        path: file of :func:`count_frequencies`: a list of categories with ``image_count``. LVIS's
            own annotation files carry such a list under ``categories``.
        dataset: whose classes they are.

    Returns:
        ``(C,)`` int64 in the order of the data set's classes.

    Raises:
        UserError: no such file, another form, or categories of another data set.
    """
    path = Path(path)
    table = _table(path)
    counts = []
    for number, name in zip(dataset.category_ids, dataset.class_names):
        entry = table.get(number)
        if entry is None or entry["name"] != name:
            what = "no such id" if entry is None else shown(entry["name"])
            raise UserError(
                f"Invalid frequencies {path}. Expected the categories of {dataset.name}. Received "
                f"those of another data set: category {number} ({shown(name)}) is {what} there."
            )
        counts.append(entry["image_count"])
    return np.array(counts, np.int64)


def _table(path: Path) -> dict[int, dict[str, Any]]:
    content = read_json(path, "Frequencies")
    entries = content.get("categories") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise UserError(
            f"Invalid frequencies {path}. Expected a list of categories with 'image_count'. "
            f"Received a {type(content).__name__}."
        )
    table = {}
    for i, entry in enumerate(entries):
        if not _usable(entry):
            raise UserError(
                f"Invalid frequencies {path}. Expected 'id', 'name' and an 'image_count' of 0 or "
                f"more in each entry. Received {shown(entry)} in entry {i}."
            )
        table[entry["id"]] = entry
    return table


def _usable(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    return is_id(entry.get("id")) and is_id(entry.get("image_count")) and entry["image_count"] >= 0
