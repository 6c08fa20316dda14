"""Evaluation of a model during training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.parallel import ranks
from unidet.config import EvaluationConfig
from unidet.engine.stepper import Stepper, fetch
from unidet.structures import Batch

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
        The result; with ``options.losses`` its metrics have those of :func:`validation_losses`.
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


def validation_losses(model: Any, batches: Iterable[Batch]) -> dict[str, float]:
    """What a model says of itself over some batches, in evaluation mode.

    Each batch is weighted by its images.

    Args:
        model: a model of either backend. Its ``measures(outputs, targets)`` are numbers that it
            watches without training on them; a batch may lack one.
        batches: images with ground truth.

    Returns:
        ``val_loss``, ``val_loss_PART`` of each loss, and ``val_NAME`` of each measure.
    """
    training, world = bool(model.training), ranks.world()
    stepper = Stepper(model, None)
    losses, measures = _Means(), _Means()
    model.eval()
    try:
        with ops.no_grad():
            for batch in batches:
                outputs = stepper.outputs(batch)
                parts = model.losses(outputs, batch.targets)
                losses.add(dict(zip(parts, fetch(list(parts.values())))), len(batch))
                measures.add(model.measures(outputs, batch.targets), len(batch))
    finally:
        model.train(training)
    for own in (losses, measures):
        own.join(world)
    means = losses.means()
    named = {f"val_loss_{name.removeprefix('loss_')}": value for name, value in means.items()}
    watched = {f"val_{name}": value for name, value in measures.means().items()}
    return {"val_loss": sum(means.values()), **named, **watched}


class _Means:
    """Weighted means of values by name."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: Mapping[str, float], weight: int) -> None:
        for name, value in values.items():
            total, weights = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + float(value) * weight, weights + weight)

    def join(self, world: ranks.World) -> None:
        """Adds up what all ranks have."""
        everything, self._sums = world.gather(self._sums), {}
        for sums in everything:
            for name, (total, weight) in sums.items():
                before = self._sums.get(name, (0.0, 0))
                self._sums[name] = (before[0] + total, before[1] + weight)

    def means(self) -> dict[str, float]:
        return {name: total / weights for name, (total, weights) in self._sums.items()}


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
