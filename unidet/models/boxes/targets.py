"""What targets of all detectors with anchors or proposals share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unidet.structures import Targets

#: Index lists are padded to a multiple of this, so that their length is never 0 or 1 (which would
#: make Jittor compile kernels of its own for these) and seldom changes.
PAD = 64


@dataclass(frozen=True)
class BoxTargets:
    """Target boxes; divisors are folded into the weights.

    Attributes:
        index: ``(P,)`` int64 rows of the flattened box outputs, padded with 0.
        weights: ``(P,)`` float32, 0 for the padding.
        anchors: ``(P, 4)`` float32 pixels: anchors or proposals.
        boxes: ``(P, 4)`` float32 pixels.
        deltas: ``(P, 4)`` float32.
    """

    index: np.ndarray
    weights: np.ndarray
    anchors: np.ndarray
    boxes: np.ndarray
    deltas: np.ndarray


def padded(rows: np.ndarray, value: np.ndarray | float = 0) -> np.ndarray:
    """``rows`` with ``value`` behind, up to a multiple of :data:`PAD`."""
    count = -len(rows) % PAD or (0 if len(rows) else PAD)
    filling = np.broadcast_to(np.asarray(value, rows.dtype), (count, *rows.shape[1:]))
    return np.concatenate([rows, filling])


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
