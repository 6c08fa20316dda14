"""Measuring a model in the middle of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.backends import nn, ops
from unidet.config import EvaluationConfig
from unidet.engine.stepper import Stepper, fetch

if TYPE_CHECKING:
    from unidet.data import DetectionDataset, Loader
    from unidet.evaluation.run import EvaluationResult


def evaluate(
    model: Any,
    loader: Loader,
    dataset: DetectionDataset,
    options: EvaluationConfig,
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Scores a model with the metrics of the data and, if asked for, with its own losses.

    Args:
        model: a model of either backend; left in the mode it came in.
        loader: every image once.
        dataset: the data set behind the loader.
        options: of the config.
        progress: called with the number of images done.

    Returns:
        The result; with ``options.losses`` its metrics have ``val_loss`` and ``val_loss_PART``.
    """
    from unidet.evaluation.run import evaluate_model

    result = evaluate_model(
        model,
        loader,
        dataset,
        max_detections=options.max_detections,
        class_agnostic=options.class_agnostic,
        progress=progress,
    )
    if options.losses:
        result.metrics.update(validation_losses(model, loader))
    return result


def validation_losses(model: Any, loader: Loader) -> dict[str, float]:
    """Mean losses over a loader in evaluation mode, each batch weighted by its images."""
    training = bool(model.training)
    stepper = Stepper(model, None)
    sums: dict[str, float] = {}
    images = 0
    model.eval()
    try:
        with ops.no_grad():
            for batch in loader:
                parts = stepper.losses(batch)
                images += len(batch)
                for name, value in zip(parts, fetch(list(parts.values()))):
                    sums[name] = sums.get(name, 0.0) + value * len(batch)
    finally:
        model.train(training)
    means = {name: total / max(images, 1) for name, total in sums.items()}
    named = {f"val_loss_{name.removeprefix('loss_')}": value for name, value in means.items()}
    return {"val_loss": sum(means.values()), **named}


@contextmanager
def weights_of(model: Any, arrays: Mapping[str, np.ndarray] | None) -> Iterator[None]:
    """The model with other weights inside the block, such as their moving average."""
    if arrays is None:
        yield
        return
    own = nn.state_arrays(model)
    nn.load_arrays(model, arrays)
    try:
        yield
    finally:
        nn.load_arrays(model, own)
