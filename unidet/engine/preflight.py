"""Checks of a config before the first step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unidet.config import Config
from unidet.engine.learnable import check_learnable
from unidet.errors import UserError, suggestion

if TYPE_CHECKING:
    from unidet.data import DetectionDataset, Loader


def check_data(
    config: Config, train_sets: Sequence[DetectionDataset], val_sets: Sequence[DetectionDataset]
) -> list[str]:
    """Looks at image files, boxes and classes.

    Args:
        config: of the run.
        train_sets: data sets of one and the same classes.
        val_sets: the validation set, or none.

    Returns:
        Warnings, one line each.

    Raises:
        UserError: a missing image file (unless bad ones are skipped), training data without a box
            to learn from, no proposals for a model that needs them, or validation data of classes
            that the training data lacks.
    """
    from unidet.evaluation.run import label_categories

    if config.data.on_bad == "error":
        for dataset in (*train_sets, *val_sets):
            dataset.check_files()
    check_learnable(train_sets)
    _check_proposals(config, train_sets, val_sets)
    warnings = _too_many_objects(config, train_sets)
    for dataset in val_sets:
        if not dataset.num_boxes:
            warnings.append(f"warning: {dataset.name} holds no boxes, so its metrics will be -1")
        if _names_nothing(config) or _own_vocabulary(config, dataset):
            continue
        label_categories(train_sets[0].class_names, dataset)
        strange = [n for n in dataset.class_names if n not in train_sets[0].class_names]
        if strange:
            warnings.append(
                f"warning: the training data do not know the class {strange[0]!r} of "
                f"{dataset.name}; classes are taken in their order"
            )
    return warnings


def _too_many_objects(config: Config, train_sets: Sequence[DetectionDataset]) -> list[str]:
    """A warning for each set with images of more objects than a model has queries."""
    from unidet.models import model_spec

    queries = {**model_spec(config.model.name).defaults, **config.model.arguments}.get(
        "num_queries"
    )
    if queries is None:
        return []
    warnings = []
    for dataset in train_sets:
        counts = [len(objects) for objects in dataset.annotations]
        crowded = [count for count in counts if count > queries]
        if crowded:
            warnings.append(
                f"warning: {len(crowded)} images of {dataset.name} hold more objects, up to "
                f"{max(crowded)}, than model.arguments.num_queries = {queries}; the rest is not "
                "learnt"
            )
    return warnings


def _names_nothing(config: Config) -> bool:
    """Whether the model tells objects from background and nothing more."""
    from unidet.evaluation.run import OBJECT
    from unidet.models import model_spec

    arguments = {**model_spec(config.model.name).defaults, **config.model.arguments}
    return tuple(arguments.get("class_names") or ()) == (OBJECT,)


def _own_vocabulary(config: Config, dataset: DetectionDataset) -> bool:
    """Whether the model detects the classes of a data set whatever it learns."""
    from unidet.models import model_spec

    accepts = model_spec(config.model.name).accepts
    return "vocabulary_sizes" in accepts and dataset.embeddings is not None


def _check_proposals(
    config: Config, train_sets: Sequence[DetectionDataset], val_sets: Sequence[DetectionDataset]
) -> None:
    from unidet.models import model_spec

    if not model_spec(config.model.name).constructor.needs_proposals:
        return
    for part, datasets in (("train", train_sets), ("val", val_sets)):
        for dataset in datasets:
            if not dataset.proposals:
                raise UserError(
                    f"Missing key `data.{part}.proposals`. Expected a file of given boxes, because "
                    f"{config.model.name} makes none itself. Received none for {dataset.name}."
                )


def check_metrics(config: Config, val_sets: Sequence[DetectionDataset]) -> tuple[str, ...]:
    """Refuses names of metrics that no evaluation of the run will give.

    Args:
        config: of the run.
        val_sets: the validation set, or none.

    Returns:
        The names that every evaluation gives. With ``evaluation.losses`` there are more, which
        only the model knows; :func:`check_measured` looks at those.

    Raises:
        UserError: names the key.
    """
    from unidet.evaluation.run import metric_names

    evaluates, options = bool(val_sets), config.evaluation
    names = metric_names(
        val_sets[0].metric if evaluates else "coco",
        class_agnostic=options.class_agnostic or _names_nothing(config),
        max_detections=options.max_detections,
    )
    if config.schedule.kind == "plateau" and config.schedule.metric != "loss" and not evaluates:
        raise UserError(
            "Invalid value for `schedule.metric`. Expected 'loss', because there is no "
            f"`data.val`. Received {config.schedule.metric!r}."
        )
    known = (*names, "val_loss") if options.losses else names
    for key, name in _watched(config).items() if evaluates else ():
        if name in known or (options.losses and name.startswith("val_")):
            continue
        hint = suggestion(name, known)
        if not options.losses and (name.startswith("val_") or "loss" in name):
            hint = " Set evaluation.losses=true to measure losses, as val_loss and val_loss_NAME."
        raise _unknown_metric(key, name, known, hint)
    return known


def check_measured(config: Config, model: Any, loader: Loader, known: Sequence[str]) -> None:
    """Refuses names of losses and measures that the model does not give for a first batch.

    Args:
        config: of the run.
        model: a model of either backend.
        loader: of the validation set.
        known: names that need no look; nothing is run where they suffice.

    Raises:
        UserError: names the key.
    """
    from unidet.engine.validation import validation_losses

    open_names = {key: name for key, name in _watched(config).items() if name not in known}
    if not open_names:
        return
    with loader.epoch(0) as batches:
        found = validation_losses(model, itertools.islice(batches, 1))
    for key, name in open_names.items():
        if name not in found:
            everything = tuple(dict.fromkeys((*known, *found)))
            raise _unknown_metric(key, name, everything, suggestion(name, everything))


def _watched(config: Config) -> dict[str, str]:
    """The keys that name a metric of the evaluation, and the names."""
    watched = {"train.best_metric": config.train.best_metric}
    if config.schedule.kind == "plateau" and config.schedule.metric != "loss":
        watched["schedule.metric"] = config.schedule.metric
    return watched


def _unknown_metric(key: str, name: str, known: Sequence[str], hint: str) -> UserError:
    return UserError(
        f"Invalid value for `{key}`. Expected one of {', '.join(known)}. Received {name!r}.{hint}"
    )
