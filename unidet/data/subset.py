"""Random subsets of a data set, with a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unidet.backends.random import stream
from unidet.data.dataset import DetectionDataset
from unidet.errors import UserError, suggestion

#: How a part is drawn: our own way, or that of UniDetector's script.
SUBSET_RULES = ("unidet", "unidetector")


def random_subset(
    dataset: DetectionDataset,
    *,
    percent: float | None = None,
    count: int | None = None,
    seed: int = 0,
    rule: str = "unidet",
) -> DetectionDataset:
    """Some images, drawn without replacement, in their old order; all categories are kept.

    A larger part with the same seed and rule contains every smaller one.

    Args:
        dataset: what to draw from.
        percent: share of the images, above 0 and at most 100; rounded, but at least one image.
        count: number of images, in place of ``percent``.
        seed: of the draw.
        rule: one of :data:`SUBSET_RULES`. "unidetector" draws the very images of its published
            parts, shuffled by NumPy's old generator; it takes a percentage and rounds down.

    Raises:
        UserError: both or neither of ``percent`` and ``count``, out of range, or an unknown rule.
    """
    if rule not in SUBSET_RULES:
        raise UserError(
            f"Invalid value for `rule`. Expected one of {', '.join(SUBSET_RULES)}. "
            f"Received {rule!r}.{suggestion(rule, SUBSET_RULES)}"
        )
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
        if rule == "unidetector":
            count = int(percent / 100 * total)
            if not count:
                raise UserError(
                    "Invalid value for `percent`. Expected a share that, rounded down, is at least "
                    f"one of {total} images. Received {percent!r}."
                )
        else:
            count = max(1, round(total * percent / 100))
    elif rule == "unidetector":
        raise UserError(
            "Invalid value for `count`. Expected a percentage with the rule unidetector. "
            f"Received {count!r}."
        )
    if count is None or not 0 < count <= total:
        raise UserError(
            f"Invalid value for `count`. Expected 1 to {total} images. Received {count!r}."
        )
    if rule == "unidetector":
        order = np.arange(total)
        np.random.RandomState(seed).shuffle(order)
    else:
        order = stream(seed, "subset").permutation(total)
    chosen = np.sort(order[:count]).tolist()
    return dataset.select(chosen, f"{dataset.name} ({count} of {total} images)")


def published_name(annotations: str | Path, percent: float, seed: int) -> Path:
    """The file that UniDetector's script writes: ``train.json`` gives ``train.1@3.5.json``."""
    path = Path(annotations)
    return path.with_name(f"{path.name.removesuffix('.json')}.{seed}@{float(percent)}.json")


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
