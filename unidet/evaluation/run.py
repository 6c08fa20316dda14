"""Running a model over a data set and scoring what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.evaluation.coco import evaluate_coco
from unidet.structures import Batch, Detections


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of a model on a data set.

    Attributes:
        metrics: COCO metrics by name, see :data:`unidet.evaluation.METRIC_NAMES`.
        results: detections in COCO result form, with the category ids of the annotations.
        per_class: class name to its metrics.
        table: the twelve lines that pycocotools prints.
        images_per_second: speed of the model and its post-processing, loading included.
    """

    metrics: dict[str, float]
    results: list[dict[str, Any]]
    per_class: dict[str, dict[str, float]]
    table: str
    images_per_second: float


def evaluate_model(
    model: Any,
    loader: Iterable[Batch],
    dataset: Any,
    *,
    max_detections: int = 100,
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Scores a model with COCO's metrics.

    Args:
        model: a model of either backend; runs in evaluation mode without gradients and is left
            in the mode it came in.
        loader: batches; the images that they hold are the images that count.
        dataset: the data set behind the loader: ``to_coco()`` gives its annotations and
            ``category_ids`` the id of each label.
        max_detections: the best that are kept of each image.
        progress: called after each batch with the number of images done.
    """
    results: list[dict[str, Any]] = []
    image_ids: list[int] = []
    started = time.perf_counter()
    for batch, found in predictions(model, loader):
        for image_id, one in zip(batch.image_ids, found):
            image_ids.append(int(image_id))
            results += best(one, max_detections).to_coco(int(image_id), dataset.category_ids)
        if progress is not None:
            progress(len(image_ids))
    seconds = time.perf_counter() - started
    scores = evaluate_coco(ground_truth_of(dataset), results, image_ids=sorted(set(image_ids)))
    return EvaluationResult(
        scores.metrics, results, scores.per_class, scores.table, len(image_ids) / max(seconds, 1e-9)
    )


def predictions(
    model: Any, loader: Iterable[Batch]
) -> Iterator[tuple[Batch, Sequence[Detections]]]:
    """Yields each batch with the detections of its images.

    The model is in evaluation mode while the generator runs and afterwards in the mode it came in.
    """

    like = next(iter(nn.parameters(model).values()))
    training = bool(model.training)
    model.eval()
    try:
        for batch in loader:
            with ops.no_grad():
                outputs = model(ops.asarray(batch.images, like=like))
                found = model.predict(outputs, batch)
            yield batch, found
    finally:
        model.train(training)


def best(detections: Detections, count: int) -> Detections:
    """The ``count`` of highest score, by falling score; ties keep their order."""
    order = np.argsort(-detections.scores, kind="stable")[:count]
    return detections[order]


def ground_truth_of(dataset: Any) -> Mapping[str, Any]:
    """Annotations of a data set in COCO form."""
    return dataset.to_coco()
