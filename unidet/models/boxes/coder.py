"""Boxes as offsets from anchors (Girshick et al. 2014, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.files.shown import shown

#: The usual bound on the logarithm of a size change: no side above 1000 px from a 16 px anchor.
LOG_LIMIT = math.log(1000 / 16)


class BoxCoder:
    """Deltas ``(dx, dy, dw, dh)``: centre shift over anchor size, log of the size ratio.

    Args:
        std: the network's outputs are deltas divided by these (weights of torchvision's coder are
            their reciprocals).
        log_limit: upper bound of ``dw`` and ``dh`` when decoding, or None.
        log_limit_both: bound them from below by ``-log_limit`` too (mmdetection).
        min_side: sides of ground truth are taken to be at least this long when encoding, in pixels
            (yhenon: 1).
    """

    def __init__(
        self,
        std: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        *,
        log_limit: float | None = LOG_LIMIT,
        log_limit_both: bool = False,
        min_side: float = 0.0,
    ) -> None:
        self.std = np.asarray(std, np.float32)
        if self.std.shape != (4,) or not (self.std > 0).all():
            raise ValueError(
                f"Invalid value for `box_std`. Expected four positive numbers. "
                f"Received {shown(std)}."
            )
        self.log_limit = log_limit
        self.log_low = -log_limit if log_limit is not None and log_limit_both else None
        self.min_side = min_side

    def encode(self, boxes_xyxy: np.ndarray, anchors_xyxy: np.ndarray) -> np.ndarray:
        """Deltas ``(n, 4)`` float32 that lead from anchors to boxes, on the host.

        Args:
            boxes_xyxy: ``(n, 4)`` pixels, sides above zero unless ``min_side`` makes them so.
            anchors_xyxy: ``(n, 4)`` pixels.
        """
        size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        centre = boxes_xyxy[:, :2] + size / 2  # before the bound, as yhenon has it
        size = np.maximum(size, self.min_side)
        anchor_size = anchors_xyxy[:, 2:] - anchors_xyxy[:, :2]
        anchor_centre = anchors_xyxy[:, :2] + anchor_size / 2
        shift = (centre - anchor_centre) / anchor_size
        deltas = np.concatenate([shift, np.log(size / anchor_size)], axis=1) / self.std
        return deltas.astype(np.float32)

    def decode(self, deltas: Any, anchors_xyxy: np.ndarray) -> Any:
        """Boxes ``(n, 4)`` in pixels, differentiable, of the kind of ``deltas``.

        Args:
            deltas: ``(n, 4)`` array or tensor, as the network gives them.
            anchors_xyxy: ``(n, 4)`` array, in pixels.
        """
        anchor_size = anchors_xyxy[:, 2:] - anchors_xyxy[:, :2]
        anchor_centre = anchors_xyxy[:, :2] + anchor_size / 2
        shift, log_size = ops.split(deltas, (2, 2), axis=1)
        log_size = log_size * ops.asarray(self.std[2:], like=deltas)
        if self.log_limit is not None:
            log_size = ops.clip(log_size, self.log_low, self.log_limit)
        # Standard deviation and anchor size are one factor, known on the host.
        centre = shift * ops.asarray(self.std[:2] * anchor_size, like=deltas)
        centre = centre + ops.asarray(anchor_centre, like=deltas)
        half = ops.exp(log_size) * ops.asarray(anchor_size / 2, like=deltas)
        return ops.concat([centre - half, centre + half], axis=1)
