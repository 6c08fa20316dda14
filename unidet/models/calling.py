"""Handing a batch to a model, whatever the model wants to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.structures import Batch


def outputs_of(
    model: Any,
    batch: Batch,
    *,
    like: Any = None,
    proposals: Sequence[np.ndarray] | None = None,
) -> dict[str, Any]:
    """Raw outputs of a model for a batch.

    Models of two stages also learn where each image ends and, where there are any, the proposals.

    Args:
        model: a model of either backend.
        batch: images with their sizes.
        like: tensor whose backend and device the images take; a parameter by default.
        proposals: ``(n, 4)`` of each image in pixels of the input; those of the batch by default.
    """
    if like is None:
        like = next(iter(nn.parameters(model).values()))
    images = ops.asarray(batch.images, like=like)
    if not getattr(model, "takes_image_sizes", False):
        return model(images)
    given = list(batch.proposals) or None if proposals is None else proposals
    return model(images, image_sizes=batch.image_sizes, proposals=given)
