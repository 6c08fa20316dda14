"""What can be told to be wrong before the first step, so that nobody waits an epoch to learn it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unidet.config import Config
from unidet.errors import UserError, suggestion

if TYPE_CHECKING:
    from unidet.data import DetectionDataset


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
        UserError: a missing image file (unless bad ones are skipped), training data without
            a box, no proposals for a model that needs them, or validation data of classes that
            the training data lacks.
    """
    from unidet.evaluation.run import label_categories

    if config.data.on_bad == "error":
        for dataset in (*train_sets, *val_sets):
            dataset.check_files()
    if not any(len(a) for dataset in train_sets for a in dataset.annotations):
        names = ", ".join(dataset.name for dataset in train_sets)
        raise UserError(
            f"Invalid value for `data.train`. Expected data with at least one box. Received "
            f"{names}: {sum(map(len, train_sets))} images, no boxes."
        )
    _check_proposals(config, train_sets, val_sets)
    warnings: list[str] = []
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

    if not getattr(model_spec(config.model.name).constructor, "needs_proposals", False):
        return
    for part, datasets in (("train", train_sets), ("val", val_sets)):
        for dataset in datasets:
            if not dataset.proposals:
                raise UserError(
                    f"Missing key `data.{part}.proposals`. Expected a file of given boxes, because "
                    f"{config.model.name} makes none itself. Received none for {dataset.name}."
                )


def check_metrics(config: Config, val_sets: Sequence[DetectionDataset]) -> None:
    """Refuses names of metrics that no evaluation of the run will give.

    Args:
        config: of the run.
        val_sets: the validation set, or none.

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
    keys = {"train.best_metric": config.train.best_metric} if evaluates else {}
    if config.schedule.kind == "plateau" and config.schedule.metric != "loss":
        keys["schedule.metric"] = config.schedule.metric
        if not evaluates:
            raise UserError(
                "Invalid value for `schedule.metric`. Expected 'loss', because there is no "
                f"`data.val`. Received {config.schedule.metric!r}."
            )
    for key, name in keys.items():
        known = (*names, "val_loss") if options.losses else names
        if name in known or (options.losses and name.startswith("val_loss_")):
            continue
        hint = suggestion(name, known)
        if name.startswith("val_loss"):
            hint = " Set evaluation.losses=true to measure it."
        raise UserError(
            f"Invalid value for `{key}`. Expected one of {', '.join(known)}. "
            f"Received {name!r}.{hint}"
        )
