"""Which level of the pyramid a proposal is cut out of (Lin et al. 2017, equation 1)."""

from __future__ import annotations

import numpy as np

#: A proposal of this side, in pixels, belongs to the level of stride 16.
CANONICAL_SIDE = 224
#: That level, counted from the one of stride 4.
CANONICAL_LEVEL = 2

RULES = ("torchvision", "mmdet", "detectron2")


def roi_levels(boxes_xyxy: np.ndarray, rule: str, count: int) -> np.ndarray:
    """Level of each box: about ``floor(2 + log2(sqrt(area) / 224))``, held within the pyramid.

    The rules differ in what they add against rounding at the borders between levels.

    Args:
        boxes_xyxy: ``(n, 4)`` float32 pixels.
        rule: ``"torchvision"`` (1e-6 after the logarithm), ``"mmdet"`` (1e-6 inside it, relative
            to 56 pixels) or ``"detectron2"`` (1e-8 inside it).
        count: levels, the first of stride 4.

    Returns:
        ``(n,)`` int64 from 0 to ``count - 1``.

    Raises:
        ValueError: an unknown rule.
    """
    sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0).astype(np.float32)
    side = np.sqrt(sides[:, 0] * sides[:, 1])
    one = np.float32
    with np.errstate(divide="ignore"):  # boxes without area go to the finest level
        if rule == "torchvision":
            exact = one(4) + np.log2(side / one(CANONICAL_SIDE)) + one(1e-6) - one(2)
        elif rule == "mmdet":
            exact = np.log2(side / one(CANONICAL_SIDE / 2**CANONICAL_LEVEL) + one(1e-6))
        elif rule == "detectron2":
            exact = one(4) + np.log2(side / one(CANONICAL_SIDE) + one(1e-8)) - one(2)
        else:
            raise ValueError(
                f"Invalid value for `rule`. Expected one of {', '.join(RULES)}. Received {rule!r}."
            )
    return np.clip(np.floor(exact), 0, count - 1).astype(np.int64)
