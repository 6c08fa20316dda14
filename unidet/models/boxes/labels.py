"""Labels that a model can learn."""

from __future__ import annotations

from unidet.structures import Targets


def check_labels(target: Targets, num_classes: int, background_slot: int | None) -> None:
    """Refuses ground truth of classes that a model does not have.

    Args:
        target: objects of one image.
        num_classes: labels lie below this.
        background_slot: label that must not occur, or None.

    Raises:
        ValueError: a label that the model cannot learn.
    """
    labels = target.labels
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"Invalid value for `targets`. Expected labels from 0 to {num_classes - 1}. "
            f"Received {int(labels.min())} to {int(labels.max())}."
        )
    if background_slot is not None and (labels == background_slot).any():
        raise ValueError(
            f"Invalid value for `targets`. Expected no object of class {background_slot}, which "
            "this model keeps for the background. Received one; number the classes from "
            f"{background_slot + 1} or build the model with background_slot=None."
        )
