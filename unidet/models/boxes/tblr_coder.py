"""Boxes as distances of their sides from an anchor's centre (Kong et al. 2020, Kim et al. 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends import ops


class TBLRCoder:
    """Distances ``(top, bottom, left, right)``, in sizes of the anchor over ``normalizer``.

    With the anchor's centre ``(cx, cy)`` and size ``(w, h)``: ``top = (cy - y1) / h``,
    ``bottom = (y2 - cy) / h``, ``left = (cx - x1) / w``, ``right = (x2 - cx) / w``.

    Args:
        normalizer: all distances are divided by it.
    """

    def __init__(self, normalizer: float = 1.0) -> None:
        if not normalizer > 0:
            raise ValueError(
                "Invalid value for `normalizer`. Expected a number above 0. "
                f"Received {normalizer!r}."
            )
        self.normalizer = np.float32(normalizer)

    def encode(self, boxes_xyxy: np.ndarray, anchors_xyxy: np.ndarray) -> np.ndarray:
        """Distances ``(n, 4)`` float32 that lead from anchors to boxes, on the host.

        Args:
            boxes_xyxy: ``(n, 4)`` pixels.
            anchors_xyxy: ``(n, 4)`` pixels, sides above zero.
        """
        size = anchors_xyxy[:, 2:] - anchors_xyxy[:, :2]
        centre = anchors_xyxy[:, :2] + size / 2
        low = (centre - boxes_xyxy[:, :2]) / size
        high = (boxes_xyxy[:, 2:] - centre) / size
        sides = [low[:, 1], high[:, 1], low[:, 0], high[:, 0]]
        return (np.stack(sides, axis=1) / self.normalizer).astype(np.float32)

    def decode(self, deltas: Any, anchors_xyxy: np.ndarray) -> Any:
        """Boxes ``(n, 4)`` in pixels, differentiable, of the kind of ``deltas``.

        Args:
            deltas: ``(n, 4)`` array or tensor, as the network gives them.
            anchors_xyxy: ``(n, 4)`` array, in pixels.
        """
        size = (anchors_xyxy[:, 2:] - anchors_xyxy[:, :2]) * self.normalizer
        centre = (anchors_xyxy[:, :2] + anchors_xyxy[:, 2:]) / 2
        top, bottom, left, right = ops.split(deltas, (1, 1, 1, 1), axis=1)
        shift = ops.concat([-left, -top, right, bottom], axis=1)
        scale = ops.asarray(np.concatenate([size, size], axis=1), like=deltas)
        return ops.asarray(np.concatenate([centre, centre], axis=1), like=deltas) + shift * scale
