"""Overlaps of all pairs of boxes, on the host: what a matcher weighs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unidet.losses.box import ciou, diou, giou


def _pairwise(measure: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    each = measure(np.repeat(a, len(b), axis=0), np.tile(b, (len(a), 1)), eps=0.0)
    return each.reshape(len(a), len(b))


def pairwise_giou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Exact GIoU ``(n, m)`` of boxes ``(n, 4)`` and ``(m, 4)``; see :func:`unidet.losses.giou`.

    The dtype, float32 or float64, is that of the boxes. Boxes without area are safe.
    """
    return _pairwise(giou, a_xyxy, b_xyxy)


def pairwise_diou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Exact DIoU, else as :func:`pairwise_giou`."""
    return _pairwise(diou, a_xyxy, b_xyxy)


def pairwise_ciou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Exact CIoU without a gate, else as :func:`pairwise_giou`."""
    return _pairwise(ciou, a_xyxy, b_xyxy)


#: Measures by the name that configs give them.
PAIRWISE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "giou": pairwise_giou,
    "diou": pairwise_diou,
    "ciou": pairwise_ciou,
}
