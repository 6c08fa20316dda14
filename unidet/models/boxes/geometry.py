"""Boxes on the host: areas, overlaps, clipping. Corner form, pixels, NumPy float32."""

from __future__ import annotations

import numpy as np


def box_area(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Areas ``(n,)`` of boxes ``(n, 4)``; negative sides count as zero."""
    sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def intersection(boxes_xyxy: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Areas ``(n,)`` that each of ``(n, 4)`` boxes shares with one ``(4,)`` box."""
    width = np.minimum(boxes_xyxy[:, 2], box[2]) - np.maximum(boxes_xyxy[:, 0], box[0])
    height = np.minimum(boxes_xyxy[:, 3], box[3]) - np.maximum(boxes_xyxy[:, 1], box[1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def paired_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """IoU ``(n,)`` of each box ``(n, 4)`` with the one of the same row; 0 where both are empty."""
    low = np.maximum(a_xyxy[:, :2], b_xyxy[:, :2])
    high = np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])
    shared = box_area(np.concatenate([low, high], axis=1))
    union = box_area(a_xyxy) + box_area(b_xyxy) - shared
    return shared / np.maximum(union, np.float32(1e-8))


def from_centres(boxes_cxcywh: np.ndarray) -> np.ndarray:
    """Corner form of boxes ``(..., 4)`` given by centre, width and height."""
    centres, sides = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=-1)


def to_centres(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Centre, width and height of boxes ``(..., 4)`` in corner form."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def clip_boxes(
    boxes_xyxy: np.ndarray, height: float, width: float, one_sided: bool = False
) -> np.ndarray:
    """Boxes moved into an image.

    Args:
        boxes_xyxy: ``(n, 4)``.
        height: of the image, in pixels.
        width: of the image, in pixels.
        one_sided: hold only the left and top corner at 0 and only the right and bottom corner at
            the border, as yhenon/pytorch-retinanet does: a box outside keeps a negative side.
    """
    low = np.zeros(4, boxes_xyxy.dtype)
    high = np.array([width, height, width, height], boxes_xyxy.dtype)
    if one_sided:
        low[2:] = -np.inf
        high[:2] = np.inf
    return np.minimum(np.maximum(boxes_xyxy, low), high)
