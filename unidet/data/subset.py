"""Seeded random parts of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unidet.backends.random import stream
from unidet.data.dataset import DetectionDataset
from unidet.errors import UserError


def random_subset(
    dataset: DetectionDataset,
    *,
    percent: float | None = None,
    count: int | None = None,
    seed: int = 0,
) -> DetectionDataset:
    """Some images, drawn without replacement, in their old order; all categories are kept.

    A larger part with the same seed contains every smaller one.

    Args:
        dataset: what to draw from.
        percent: share of the images, above 0 and at most 100; rounded, but at least one image.
        count: number of images, in place of ``percent``.
        seed: of the draw.

    Raises:
        UserError: both or neither of ``percent`` and ``count``, or out of range.
    """
    if (percent is None) == (count is None):
        raise UserError(
            "Invalid subset. Expected either a percentage or a number of images. "
            f"Received percent={percent!r}, count={count!r}."
        )
    total = len(dataset)
    if percent is not None:
        if not 0 < percent <= 100:
            raise UserError(
                "Invalid value for `percent`. Expected above 0 and at most 100. "
                f"Received {percent!r}."
            )
        count = max(1, round(total * percent / 100))
    if count is None or not 0 < count <= total:
        raise UserError(
            f"Invalid value for `count`. Expected 1 to {total} images. Received {count!r}."
        )
    order = stream(seed, "subset").permutation(total)
    chosen = np.sort(order[:count]).tolist()
    return dataset.select(chosen, f"{dataset.name} ({count} of {total} images)")


def subset_content(content: Mapping[str, Any], part: DetectionDataset) -> dict[str, Any]:
    """A COCO-form file cut down to the images of ``part``; all other keys stay, masks too."""
    ids = {record.id for record in part.images}
    return {
        **content,
        "images": [i for i in content["images"] if i["id"] in ids],
        "annotations": [a for a in content["annotations"] if a["image_id"] in ids],
    }


def subset_table(rows: Sequence[tuple[str, DetectionDataset]]) -> str:
    """Images, boxes and classes of each row, as text; shares refer to the first row.

    "Classes used" are those with a box; the list of categories itself never shrinks.
    """
    lines = [("", "images", "boxes", "classes", "classes used")]
    first = rows[0][1]
    for title, dataset in rows:
        used = {int(label) for entry in dataset.annotations for label in entry.labels}
        lines.append(
            (
                title,
                f"{len(dataset):,} ({_share(len(dataset), len(first))})",
                f"{dataset.num_boxes:,} ({_share(dataset.num_boxes, first.num_boxes)})",
                f"{dataset.num_classes:,}",
                f"{len(used):,}",
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))])
        for line in lines
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.4g} %" if whole else "-"
