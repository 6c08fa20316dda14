"""Where DETR's features lie: sine positions and the mask of padding (Carion et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Size = tuple[int, int]

#: Longest wave over the shortest.
TEMPERATURE = 10000
#: Keeps the quotient finite where an image has no valid pixel.
EPSILON = 1e-6


def valid_cells(padded: Size, image: Size, cells: Size) -> np.ndarray:
    """Cells of a feature map that belong to the image, not to its padding.

    Args:
        padded: ``(H, W)`` of the network's input.
        image: ``(h, w)`` of the image inside.
        cells: ``(rows, columns)`` of the map. A cell takes the pixel ``floor(i * H / rows)``.

    Returns:
        ``(rows, columns)`` bool.
    """
    inside = [
        # Nearest neighbour as torch has it, with the factor in single precision.
        np.floor(np.arange(count, dtype=np.float32) * np.float32(total / count)) < end
        for total, end, count in zip(padded, image, cells)
    ]
    return inside[0][:, None] & inside[1][None, :]


def sine_positions(valid: np.ndarray, width: int) -> np.ndarray:
    """Two-dimensional sine positions.

    Args:
        valid: ``(rows, columns)`` bool; rows and columns are counted among valid cells alone.
        width: channels, a multiple of 4: the first half for rows, the other for columns.

    Returns:
        ``(rows, columns, width)`` float32.
    """
    half = width // 2
    waves = TEMPERATURE ** (2 * (np.arange(half) // 2) / half)
    parts = []
    for axis in (0, 1):
        count = np.cumsum(valid, axis=axis, dtype=np.float64)
        share = count / (count.take([-1], axis=axis) + EPSILON) * (2 * math.pi)
        angles = share[..., None] / waves  # (rows, columns, half)
        even = np.arange(half) % 2 == 0
        parts.append(np.where(even, np.sin(angles), np.cos(angles)))
    return np.concatenate(parts, axis=-1).astype(np.float32)


@lru_cache(maxsize=64)
def _of_image(padded: Size, image: Size, cells: Size, width: int) -> tuple[np.ndarray, np.ndarray]:
    valid = valid_cells(padded, image, cells)
    return valid.reshape(-1), sine_positions(valid, width).reshape(-1, width)


def positions_of(
    padded: Size, images: Sequence[Size], cells: Size, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks and positions of a batch, cells in reading order.

    Returns:
        ``(N, rows * columns)`` bool, True for cells of the image, and
        ``(N, rows * columns, width)`` float32.
    """
    each = [_of_image(padded, (int(h), int(w)), cells, width) for h, w in images]
    return np.stack([valid for valid, _ in each]), np.stack([place for _, place in each])
