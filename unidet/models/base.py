"""Handing a batch to a model, whatever the model wants to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends import nn, ops, random
from unidet.structures import Batch


def outputs_of(
    model: Any,
    batch: Batch,
    *,
    like: Any = None,
    proposals: Sequence[np.ndarray] | None = None,
) -> dict[str, Any]:
    """Raw outputs of a model for a batch.

    Some models also learn where each image ends, those of two stages the proposals, if any, and
    those of several vocabularies which data set each image comes from. A CLIP reads
    :func:`example_tokens` beside them.

    Args:
        model: a model of either backend.
        batch: images with their sizes.
        like: tensor whose backend and device the images take; a parameter by default.
        proposals: ``(n, 4)`` or, with scores, ``(n, 5)`` of each image in pixels of the input;
            those of the batch by default.
    """
    if like is None:
        like = next(iter(nn.parameters(model).values()))
    images = ops.asarray(batch.images, like=like)
    if getattr(model, "takes_tokens", False):
        return model(images, example_tokens(model))
    if not getattr(model, "takes_image_sizes", False):
        return model(images)
    more: dict[str, Any] = {}
    if getattr(model, "takes_proposals", False):
        more["proposals"] = list(batch.proposals) or None if proposals is None else proposals
    if getattr(model, "takes_dataset_ids", False):
        more["dataset_ids"] = list(batch.dataset_ids) or None
    return model(images, image_sizes=batch.image_sizes, **more)


def count_goals(model: Any, batch: Batch, *, like: Any = None) -> None:
    """Counts what the losses of a batch are divided by, for :func:`sharing.counting`.

    A model whose counts do not depend on what it answers has ``count(batch)``; one with ``goals``
    answers first, without gradient and with its running statistics at rest; any other counts
    nothing.

    Args:
        model: a model of either backend, in the mode in which it trains.
        batch: the part of a step that is counted.
        like: see :func:`outputs_of`.
    """
    if hasattr(model, "count"):
        model.count(batch)
        return
    if not hasattr(model, "goals"):
        return
    norms = [m for _, m in model.named_modules() if getattr(m, "running_mean", None) is not None]
    kept = [(norm, norm.momentum) for norm in norms if hasattr(norm, "momentum")]
    try:
        for norm, _ in kept:
            norm.momentum = 0.0
        with ops.no_grad():
            model.goals(outputs_of(model, batch, like=like), batch.targets)
    finally:
        for norm, momentum in kept:
            norm.momentum = momentum


def example_tokens(model: Any, texts: int = 4) -> np.ndarray:
    """Texts of chance tokens and of several lengths, for trials of a model that reads texts.

    Args:
        model: a CLIP; its two last tokens begin and end a text.
        texts: how many.

    Returns:
        ``(texts, context_length)`` int64.
    """
    generator = random.stream(0, "tokens")
    begin, end, longest = model.vocab_size - 2, model.vocab_size - 1, model.context_length
    tokens = []
    for length in np.linspace(1, longest - 2, texts).astype(int):
        words = generator.integers(1, begin, length).tolist()
        tokens.append([begin, *words, end, *[0] * (longest - 2 - length)])
    return np.array(tokens, np.int64)


def example_proposals(model: Any, image_sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Boxes of two sizes all over each image, for trials of a model that makes none itself.

    Args:
        model: a model of either backend.
        image_sizes: ``(height, width)`` of each image in pixels of the input.

    Returns:
        ``(34, 5)`` float32 of each image, with falling scores; an empty list for a model that
        needs none.
    """
    if not getattr(model, "needs_proposals", False):
        return []
    corners = [
        (column / steps, row / steps, (column + 2) / steps, (row + 2) / steps)
        for steps in (4, 6)
        for row in range(steps - 1)
        for column in range(steps - 1)
    ]
    shares = np.array(corners, np.float32)
    scores = np.linspace(0.9, 0.1, len(shares), dtype=np.float32)[:, None]
    sides = [np.array([w, h, w, h], np.float32) for h, w in image_sizes]
    return [np.hstack([shares * own, scores]) for own in sides]
