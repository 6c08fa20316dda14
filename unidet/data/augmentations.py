"""The augmentations that a config may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unidet.data.albumentations import Albumentations
from unidet.data.crops import DetrCropResize, RandomSizeCrop
from unidet.data.transforms import (
    Augmentation,
    ColorJitter,
    HorizontalFlip,
    RandomResize,
    RandomZoom,
    VerticalFlip,
)
from unidet.errors import UserError, suggestion

#: Names that a config may use.
AUGMENTATIONS: dict[str, type] = {
    "horizontal_flip": HorizontalFlip,
    "vertical_flip": VerticalFlip,
    "random_resize": RandomResize,
    "random_zoom": RandomZoom,
    "random_size_crop": RandomSizeCrop,
    "detr_crop_resize": DetrCropResize,
    "color_jitter": ColorJitter,
    "albumentations": Albumentations,
}


def create_augmentation(name: str, arguments: Mapping[str, Any] | None = None) -> Augmentation:
    """One of ``AUGMENTATIONS`` by name.

    Raises:
        UserError: unknown name or argument.
    """
    if name not in AUGMENTATIONS:
        from unidet.plugins import load_plugins

        load_plugins()
    if name not in AUGMENTATIONS:
        raise UserError(
            f"Invalid augmentation name. Expected one of {', '.join(AUGMENTATIONS)}. "
            f"Received {name!r}.{suggestion(name, AUGMENTATIONS)}"
        )
    try:
        made: Augmentation = AUGMENTATIONS[name](**dict(arguments or {}))
    except TypeError as error:
        raise UserError(f"Invalid arguments for augmentation {name!r}: {error}") from None
    return made
