"""Focal loss for one-against-all classification (Lin et al. 2017)."""

from __future__ import annotations

import math
from typing import Any

from unidet.backends import ops


def sigmoid_focal_loss(
    logits: Any,
    classes: Any,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    probability_clamp: float | None = None,
) -> Any:
    """Loss of each logit, not reduced.

    Args:
        logits: ``(..., K)`` float32 tensor.
        classes: ``(...)`` integer tensor, the class that is present or a negative number.
        alpha: weight of present classes; absent ones weigh ``1 - alpha``. ``None`` weighs both 1.
        gamma: power of ``1 - p`` that plays down what is already learnt.
        probability_clamp: holds probabilities in ``[c, 1 - c]``, with no gradient outside
            (yhenon: 1e-4). ``None`` for none.

    Returns:
        ``(..., K)`` tensor.

    Raises:
        ValueError: a setting outside its range.
    """
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"Invalid value for `alpha`. Expected 0 to 1 or None. Received {alpha}.")
    if gamma < 0:
        raise ValueError(f"Invalid value for `gamma`. Expected 0 or more. Received {gamma}.")
    if probability_clamp is not None:
        if not 0 < probability_clamp < 0.5:
            raise ValueError(
                "Invalid value for `probability_clamp`. Expected a number between 0 and 0.5. "
                f"Received {probability_clamp}."
            )
        # The same bound, put on the logit, where nothing is lost to rounding.
        limit = math.log((1 - probability_clamp) / probability_clamp)
        logits = ops.clip(logits, -limit, limit)
    depth = ops.shape(logits)[-1]
    slots = ops.arange(depth, dtype=ops.dtype(classes), like=classes)
    targets = ops.cast(ops.expand_dims(classes, -1) == slots, ops.dtype(logits))
    return ops.sigmoid_focal_loss(logits, targets, -1.0 if alpha is None else alpha, gamma)
