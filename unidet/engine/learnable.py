"""Checks that training data contain usable boxes, and explains why if they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unidet.data.transforms import clip_targets
from unidet.errors import UserError

if TYPE_CHECKING:
    from unidet.data import DetectionDataset

#: Why boxes are not learnt, with what usually is behind it.
_CAUSES = {
    "normalised": "are smaller than a pixel and lie within 0..1: they look normalised; multiply "
    "them by the width and height of their images",
    "crowd": "are crowd regions (iscrowd 1); set iscrowd to 0 for single objects",
    "ignored": "are marked to be ignored (ignore 1 or difficult)",
    "flat": "have a width or a height below one pixel; bbox is [x, y, width, height] in pixels",
    "outside": "lie outside their images; bbox is [x, y, width, height] in pixels, and width and "
    "height of the images must be those of the files",
}


def check_learnable(datasets: Sequence[DetectionDataset]) -> None:
    """Refuses training data without a single box that a model could learn.

    Args:
        datasets: the training sets; one box in one of them suffices.

    Raises:
        UserError: says how many boxes there are, why none counts, and the likely cause.
    """
    reasons: Counter[str] = Counter()
    for dataset in datasets:
        for index in range(len(dataset)):
            if not len(dataset.annotations[index]):
                continue
            found = _reasons(dataset, index)
            if found[""]:
                return
            reasons.update(found)
    names = ", ".join(dataset.name for dataset in datasets)
    images, boxes = sum(map(len, datasets)), sum(reasons.values())
    what = "no boxes"
    if boxes:
        parts = [f"{count:,} {_CAUSES[reason]}" for reason, count in reasons.most_common()]
        what = f"{boxes:,} boxes, none of which can be learnt: {'; '.join(parts)}"
    skipped = [line for dataset in datasets for line in dataset.skipped]
    if skipped:
        what += f"; {len(skipped):,} entries were left out, the first: {skipped[0]}"
    raise UserError(
        "Invalid value for `data.train`. Expected data with at least one box to learn from. "
        f"Received {names}: {images:,} images, {what}. `unidet data check` lists what is wrong."
    )


def _reasons(dataset: DetectionDataset, index: int) -> Counter[str]:
    """How many boxes of an image are left out for which reason; "" counts those that are learnt."""
    targets, record = dataset.targets(index), dataset.images[index]
    sides = targets.boxes_xyxy[:, 2:] - targets.boxes_xyxy[:, :2]
    reasons: Counter[str] = Counter()
    for i, box in enumerate(targets.boxes_xyxy):
        one = targets[np.array([i])]
        if targets.crowd[i]:
            reasons["crowd"] += 1
        elif targets.ignore[i]:
            reasons["ignored"] += 1
        elif (box >= 0).all() and (box <= 1).all():
            reasons["normalised"] += 1
        elif (sides[i] < 1 - 1e-3).any():
            reasons["flat"] += 1
        elif record.width and not len(clip_targets(one, (record.height, record.width))):
            reasons["outside"] += 1
        else:
            reasons[""] += 1
            break
    return reasons
