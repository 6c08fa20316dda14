"""COCO's categories: the label spaces of the published detectors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .detr_settings import CONFIG, class_names

#: What Hugging Face calls a label that has no name.
_PLACEHOLDER = re.compile(r"LABEL_\d+")

#: Name of each COCO id from 0; torchvision's files have an output for every one of these slots.
COCO_SLOTS: tuple[str, ...] = (
    *("__background__", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train"),
    *("truck", "boat", "traffic light", "fire hydrant", "N/A", "stop sign", "parking meter"),
    *("bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra"),
    *("giraffe", "N/A", "backpack", "umbrella", "N/A", "N/A", "handbag", "tie", "suitcase"),
    *("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove"),
    *("skateboard", "surfboard", "tennis racket", "bottle", "N/A", "wine glass", "cup", "fork"),
    *("knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot"),
    *("hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "N/A"),
    *("dining table", "N/A", "N/A", "toilet", "N/A", "tv", "laptop", "mouse", "remote"),
    *("keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "N/A"),
    *("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
#: Facebook's DETR has the same slots without a background, so that slot 0 stands for nothing.
DETR_SLOTS: tuple[str, ...] = ("N/A", *COCO_SLOTS[1:])
#: The 80 categories in the order of their ids.
COCO: tuple[str, ...] = tuple(n for n in COCO_SLOTS if n not in ("__background__", "N/A"))


def known_names(
    slots: tuple[str, ...],
    num_classes: int,
    extras: Mapping[str, Any],
    *,
    background_slot: int | None = None,
) -> tuple[tuple[str, ...], str]:
    """Class names of an imported detector and how they are known.

    Args:
        slots: Names where the peer's labels are COCO's category ids.
        num_classes: Labels.
        extras: What the file holds, and what lies, beside the weights: mmdetection and Hugging
            Face write the names there.
        background_slot: 0 where label 0 stands for the background.

    Returns:
        The names, or an empty tuple, and a remark.
    """
    for names in _stored(extras):
        if len(names) == num_classes:
            return names, "class names are the file's"
        if background_slot == 0 and len(names) + 1 == num_classes:
            return (COCO_SLOTS[0], *names), "class names are the file's, behind the background"
    if num_classes == len(slots):
        return slots, "91 slots: class names are COCO's, the slot is the category id"
    if background_slot == 0 and num_classes == len(COCO) + 1:
        return (COCO_SLOTS[0], *COCO), "81 labels: the background and, it is assumed, COCO's 80"
    if not slots and background_slot is None and num_classes == len(COCO):
        return COCO, "80 classes: class names are taken to be COCO's (--classes says otherwise)"
    return (), "class names are unknown (--classes gives them)"


def _stored(extras: Mapping[str, Any]) -> list[tuple[str, ...]]:
    found = []
    config = extras.get(CONFIG)
    metadata = class_names(config) if isinstance(config, Mapping) else None
    if metadata is not None and not all(map(_PLACEHOLDER.fullmatch, metadata)):
        found.append(metadata)
    meta = extras.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    inner = meta.get("dataset_meta")
    for place in (meta, inner if isinstance(inner, dict) else {}):
        for key in ("CLASSES", "classes"):
            names = place.get(key)
            if isinstance(names, (tuple, list)) and all(isinstance(n, str) for n in names):
                found.append(tuple(names))
    return found
