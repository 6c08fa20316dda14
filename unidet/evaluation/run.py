"""Runs a model on a data set and scores its detections."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.memory import Releases
from unidet.backends.parallel import ranks
from unidet.errors import UserError, suggestion
from unidet.evaluation import lvis
from unidet.evaluation.coco import METRIC_NAMES, evaluate_coco
from unidet.evaluation.lvis import evaluate_lvis
from unidet.evaluation.proposals import LIMITS, box_metric_names, limits_up_to, score_boxes
from unidet.evaluation.results import MAX_PER_IMAGE
from unidet.files.shown import shown
from unidet.models.base import ReadsText
from unidet.structures import Batch, Detections

#: The class of models that tell objects from background and nothing more.
OBJECT = "object"


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of a model on a data set.

    Attributes:
        metrics: by name, see :func:`metric_names`.
        results: detections in COCO result form, with the category ids of the annotations; 1 for
            all where classes do not count.
        per_class: class name to its metrics; empty where classes do not count.
        table: the lines that the evaluator prints.
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
    max_detections: int | None = None,
    class_names: Sequence[str] | None = None,
    class_agnostic: bool = False,
    scoring: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Scores a model with COCO's metrics, or with LVIS's where the data set asks for them.

    A model whose one class is "object" is scored without classes on data that lack that name.
    The ranks of a job each bring a loader of their own images; they all get the scores of all.

    Args:
        model: a model of either backend; runs in evaluation mode without gradients and is left
            in the mode it came in.
        loader: batches; the images that they hold are the images that count.
        dataset: the data set behind the loader.
        max_detections: the best that are kept of each image; by default what the metrics count,
            100, or 300 with LVIS's, or 1000 where classes do not count.
        class_names: of the model's labels; the model's own by default.
        class_agnostic: score boxes alone, see :func:`unidet.evaluation.proposals.score_boxes`.
        scoring: changes of ``model.set_scoring`` that hold meanwhile, for a model that classifies
            by text: ``beta``, ``gamma``, ``class_prior`` (of the data set's classes) and limits.
        progress: called after each batch with the number of images done.

    Raises:
        UserError: the classes of the model are not those of the data.
        ValueError: a value of ``scoring`` that makes no sense, or a model that has none.
    """
    with vocabulary_of(model, dataset), _scoring_of(model, scoring):
        return _evaluate(
            model, loader, dataset, max_detections, class_names, class_agnostic, progress
        )


def vocabulary_of(model: Any, dataset: Any) -> Any:
    """A context in which a model that compares with text detects the classes of a data set.

    Args:
        model: a model of either backend.
        dataset: without ``embeddings``, or with another model, the context changes nothing.

    Raises:
        UserError: embeddings that do not fit the model.
    """
    if dataset.embeddings is None or not isinstance(model, ReadsText):
        return contextlib.nullcontext()
    try:
        return model.using_vocabulary(dataset.class_names, dataset.embeddings)
    except ValueError as error:
        raise UserError(f"Invalid text embeddings of {dataset.name}. {error}") from None


def _scoring_of(model: Any, changes: Mapping[str, Any] | None) -> Any:
    if not changes:
        return contextlib.nullcontext()
    if not isinstance(model, ReadsText):
        raise ValueError(
            "Invalid value for `scoring`. Expected a model that classifies by text. Received "
            f"{model.config['name']}."
        )
    return model.scoring(**changes)


def _evaluate(
    model: Any,
    loader: Iterable[Batch],
    dataset: Any,
    max_detections: int | None,
    class_names: Sequence[str] | None,
    class_agnostic: bool,
    progress: Callable[[int], None] | None,
) -> EvaluationResult:
    results: list[dict[str, Any]] = []
    seen: set[int] = set()
    names = class_names if class_names is not None else model.class_names
    agnostic = class_agnostic or finds_objects(names, dataset)
    limit = max_detections or default_limit(dataset.metric, class_agnostic=agnostic)
    category_ids = [] if agnostic else label_categories(names, dataset)
    started = time.perf_counter()
    for batch, found in predictions(model, loader):
        for image_id, one in zip(map(int, batch.image_ids), found):
            # Loaders that group by shape repeat images; twice the same would count as false.
            if image_id not in seen:
                seen.add(image_id)
                kept = best(one, limit)
                results += (
                    as_objects(kept, image_id)
                    if agnostic
                    else to_results(kept, image_id, category_ids)
                )
        if progress is not None:
            progress(len(seen))
    seconds = time.perf_counter() - started
    seconds = max(ranks.world().gather(seconds))
    results, seen = _of_all_ranks(results, seen, dataset)
    return ranks.world().from_main(
        _score(dataset, results, sorted(seen), agnostic, limit, seconds)
        if ranks.world().is_main
        else None
    )


def _of_all_ranks(
    results: list[dict[str, Any]], seen: set[int], dataset: Any
) -> tuple[list[dict[str, Any]], set[int]]:
    """What all ranks have found, in the order in which one alone finds it."""
    if ranks.world().size == 1:
        return results, seen
    everything, images = [], set()
    for own, own_images in ranks.world().gather((results, seen)):
        everything += [one for one in own if one["image_id"] not in images]
        images |= own_images
    order = {record.id: place for place, record in enumerate(dataset.images)}
    return sorted(everything, key=lambda one: order.get(one["image_id"], -1)), images


def _score(
    dataset: Any,
    results: list[dict[str, Any]],
    counted: list[int],
    agnostic: bool,
    limit: int,
    seconds: float,
) -> EvaluationResult:
    truth = dataset.to_coco()
    if agnostic:
        scores = score_boxes(truth, results, limits=limits_up_to(limit), image_ids=counted)
    elif dataset.metric == "lvis":
        scores = evaluate_lvis(truth, results, image_ids=counted, max_detections=limit)
    else:
        scores = evaluate_coco(truth, results, image_ids=counted)
    return EvaluationResult(
        scores.metrics, results, scores.per_class, scores.table, len(counted) / max(seconds, 1e-9)
    )


def finds_objects(class_names: Sequence[str] | None, dataset: Any) -> bool:
    """Whether a model tells objects from background alone, and the data name their classes."""
    return class_names is not None and tuple(class_names) == (OBJECT,) != dataset.class_names


def default_limit(metric: str, *, class_agnostic: bool) -> int:
    """How many detections of an image the metrics count."""
    if class_agnostic:
        return LIMITS[-1]
    return lvis.MAX_DETECTIONS if metric == "lvis" else MAX_PER_IMAGE


def metric_names(
    metric: str, *, class_agnostic: bool = False, max_detections: int | None = None
) -> tuple[str, ...]:
    """Names of the metrics that :func:`evaluate_model` gives.

    Args:
        metric: of the data set, "coco" or "lvis".
        class_agnostic: whether boxes alone are scored.
        max_detections: as there.
    """
    limit = max_detections or default_limit(metric, class_agnostic=class_agnostic)
    if class_agnostic:
        return box_metric_names(limits_up_to(limit))
    return lvis.lvis_metric_names(limit) if metric == "lvis" else METRIC_NAMES


def label_categories(class_names: Sequence[str] | None, dataset: Any) -> list[int | None]:
    """Category id of each label of a model, None where the data lacks the class.

    Names decide where the model knows all of the data's. The order decides only where the model
    has as many classes and no name that both know stands at another place.

    Args:
        class_names: of the model, or None.
        dataset: with ``class_names`` and ``category_ids``.

    Raises:
        UserError: neither holds; names the class that contradicts.
    """
    own, names = list(dataset.category_ids), tuple(dataset.class_names)
    if class_names is None or tuple(class_names) == names:
        return own
    missing = [name for name in names if name not in class_names]
    twice = [name for name in names if names.count(name) > 1]
    if not missing and not twice:
        by_name = dict(zip(names, own))
        return [by_name.get(name) for name in class_names]
    if len(class_names) == len(names):
        moved = _contradiction(class_names, names)
        if moved is None:
            return own
        raise UserError(
            f"Invalid data. Expected the classes of the model, by name or in its order. Received "
            f"{shown(missing[0] if missing else twice[0])}, which cannot be told by its name, and "
            f"{shown(moved)} at another place than the model has it, so that the order does "
            "not tell it either. Rename the category, or leave it out."
        )
    if not missing:
        raise UserError(
            f"Invalid data. Expected each class name once, or the classes of the model in its "
            f"order. Received {twice[0]!r} twice."
        )
    raise UserError(
        f"Invalid data. Expected classes among the {len(class_names)} of the model. "
        f"Received {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
        f"{suggestion(missing[0], class_names)}"
    )


def _contradiction(class_names: Sequence[str], names: Sequence[str]) -> str | None:
    """A name that both know and that stands at different places."""
    pairs = zip(class_names, names)
    shared = set(class_names) & set(names)
    return next((b for a, b in pairs if a != b and b in shared), None)


def to_results(
    found: Detections, image_id: int, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """COCO result form; labels without a category are left out."""
    known = np.array([c is not None for c in category_ids], bool)
    if len(found) and not 0 <= found.labels.min() <= found.labels.max() < len(known):
        raise UserError(
            f"Invalid data. Expected a class for each label of the model. Received "
            f"{len(known)} classes and the label {found.labels.max()}."
        )
    kept = found[known[found.labels]] if len(found) else found
    return kept.to_coco(image_id, [-1 if c is None else c for c in category_ids])


def as_objects(found: Detections, image_id: int) -> list[dict[str, Any]]:
    """COCO result form with the category id 1 for all."""
    alike = Detections(found.boxes_xyxy, found.scores, np.zeros(len(found), np.int64))
    return alike.to_coco(image_id, [1])


def predictions(
    model: Any, loader: Iterable[Batch]
) -> Iterator[tuple[Batch, Sequence[Detections]]]:
    """Yields each batch with the detections of its images.

    The model is in evaluation mode while the generator runs, and all its parts are afterwards in
    the modes they came in.
    """
    like = next(iter(nn.parameters(model).values()))
    releases = Releases()
    with evaluation_mode(model):
        for batch in loader:
            with ops.no_grad():
                outputs = model.run(batch, like=like)
                found = model.predict(outputs, batch)
            releases.used()
            yield batch, found


@contextlib.contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Evaluation mode inside the block; every part returns to its own mode afterwards."""
    modes = [(module, bool(module.training)) for _, module in model.named_modules()]
    model.eval()
    try:
        yield
    finally:
        # Parents come first, so that the modes of their parts have the last word.
        for module, mode in modes:
            module.train(mode)


def best(detections: Detections, count: int) -> Detections:
    """The ``count`` of highest score, by falling score; ties keep their order."""
    order = np.argsort(-detections.scores, kind="stable")[:count]
    return detections[order]
