"""Builds the parts of a run from a config: data sets, loaders, model, optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unidet.backends import nn
from unidet.config import Config, ConfigError, SourceConfig
from unidet.errors import UserError
from unidet.files.shown import shown

if TYPE_CHECKING:
    from unidet.data import DetectionDataset, Loader

DEVICES = ("cpu", "cuda")


def check_device(device: str) -> str:
    """Returns ``device`` if it is one that models can be moved to.

    Raises:
        ValueError: it is not.
    """
    if device not in DEVICES:
        raise ValueError(
            f"Invalid value for `device`. Expected one of {', '.join(DEVICES)}. "
            f"Received {device!r}."
        )
    return device


def load_datasets(config: Config, part: str, folder: Path) -> list[DetectionDataset]:
    """The data sets of ``data.train`` or ``data.val``.

    Args:
        config: the run's config.
        part: "train" or "val".
        folder: where generated scenes go when ``data.root`` is empty.

    Raises:
        UserError: the data cannot be read, or the sets name different classes and the model has
            no vocabulary for each.
    """
    from unidet.backends.parallel import ranks
    from unidet.data.sources import load_dataset
    from unidet.models import model_spec

    # Rank 0 first: it alone may have to write, and the others then read what it wrote.
    with ranks.main_first():
        datasets = [load_dataset(spec) for spec in _specs(config, part, folder)]
    if model_spec(config.model.name).constructor.mixes_classes:
        return datasets
    for other in datasets[1:]:
        if other.class_names != datasets[0].class_names:
            raise UserError(
                f"Invalid value for `data.{part}`. Expected data sets with the same classes. "
                f"Received {datasets[0].name} with {datasets[0].num_classes} and {other.name} with "
                f"{other.num_classes}, or in another order."
            )
    return datasets


def _specs(config: Config, part: str, folder: Path) -> list[dict[str, Any]]:
    data = config.data
    if data.format == "scenes":
        scenes = data.scenes
        root = Path(data.root) if data.root else folder / "data"
        count, offset = (scenes.train_images, 0) if part == "train" else (scenes.val_images, 1)
        return [
            {
                "format": "scenes",
                "root": root / part,
                "scene_count": count,
                "size": (scenes.height, scenes.width),
                "seed": 2 * scenes.seed + offset,
                "classes": scenes.classes or None,
                "max_objects": scenes.max_objects,
            }
        ]
    return [_source(config, source) for source in getattr(data, part)]


def _source(config: Config, source: SourceConfig) -> dict[str, Any]:
    root = Path(config.data.root)
    form = source.format or config.data.format
    spec: dict[str, Any] = {
        "format": form,
        "annotations": root / source.annotations,
        "images": root / source.images if source.images or form != "voc" else None,
        "on_bad": config.data.on_bad,
        "percent": source.percent,
        "count": source.count,
        "subset_seed": source.subset_seed,
    }
    for key in ("proposals", "embeddings", "frequencies"):
        if getattr(source, key):
            spec[key] = root / getattr(source, key)
    if config.data.class_names:
        spec["class_names"] = config.data.class_names
    return spec


def build_model(
    config: Config,
    datasets: Sequence[DetectionDataset],
    *,
    backend: str,
    device: str,
    seed: int,
) -> Any:
    """The model with fresh weights, frozen as the config says, on its device.

    Args:
        config: the run's config.
        datasets: the training data; their classes set ``num_classes`` where the config does not,
            and their text embeddings go into a model that compares with them.
        backend: "torch" or "jittor".
        device: "cpu" or "cuda".
        seed: of the fresh weights.

    Raises:
        UserError: unknown model or argument, or a prefix to freeze that fits nothing.
    """
    from unidet.backends import nn
    from unidet.models import create_from, model_spec

    arguments = dict(config.model.arguments)
    accepts = model_spec(config.model.name).accepts
    class_names = datasets[0].class_names
    open_vocabulary = "vocabulary_sizes" in accepts
    if open_vocabulary:
        arguments |= vocabulary_arguments(arguments, datasets)
    elif "num_classes" not in accepts:
        pass
    elif "num_classes" not in arguments:
        arguments["num_classes"] = len(class_names)
        if "class_names" in accepts:
            arguments["class_names"] = tuple(class_names)
    elif not _is_count(arguments["num_classes"]) or arguments["num_classes"] < len(class_names):
        raise ConfigError(
            f"Invalid value for `model.arguments.num_classes`. Expected at least the "
            f"{len(class_names)} classes of the data, or no value. "
            f"Received {arguments['num_classes']!r}."
        )
    model = create_from(config.model.name, arguments, backend=backend, seed=seed)
    if open_vocabulary:
        set_vocabularies(model, datasets)
    if config.train.freeze:
        try:
            nn.freeze(model, *config.train.freeze)
        except ValueError as error:
            raise ConfigError(f"Invalid value for `train.freeze`. {error}") from error
    expected, (trained, total) = config.train.expect_trainable, count_parameters(model)
    if expected is not None and trained != expected:
        raise ConfigError(
            f"Invalid value for `train.expect_trainable`. Expected {trained}, what the model "
            f"trains of its {total} parameters. Received {expected}. Look at train.freeze and the "
            "model's arguments."
        )
    if config.train.sync_batch_norm:
        nn.synchronise_norms(model)
    return nn.to_device(model, check_device(device))


def count_parameters(model: Any) -> tuple[int, int]:
    """How many numbers of a model are trained, and how many could be; buffers are neither."""
    from unidet.backends import nn, ops

    sizes = {name: math.prod(ops.shape(value)) for name, value in nn.parameters(model).items()}
    return sum(sizes[name] for name in nn.trainable(model)), sum(sizes.values())


def vocabulary_arguments(
    given: Mapping[str, Any], datasets: Sequence[DetectionDataset]
) -> dict[str, Any]:
    """What the classes of the training data make of a model that compares with text.

    Data sets of the same classes share one vocabulary; otherwise each has its own.

    Raises:
        ConfigError: the config sets these arguments itself.
    """
    for name in ("num_classes", "class_names", "vocabulary_sizes", "class_prior"):
        if name in given:
            raise ConfigError(
                f"Invalid value for `model.arguments.{name}`. Expected no value, because the "
                f"training data decide it. Received {given[name]!r}."
            )
    first = datasets[0]
    if all(other.class_names == first.class_names for other in datasets):
        return {"num_classes": first.num_classes, "class_names": first.class_names}
    sizes = tuple(dataset.num_classes for dataset in datasets)
    return {
        "num_classes": max(sizes),
        "vocabulary_sizes": sizes,
        "class_names": first.class_names,
    }


def set_vocabularies(model: Any, datasets: Sequence[DetectionDataset]) -> None:
    """Gives a model the text embeddings and class frequencies of its training data.

    Raises:
        ConfigError: a data set without embeddings, or embeddings of another length.
    """
    count = len(model.sizes)
    embeddings = []
    for i, dataset in enumerate(datasets[:count]):
        if dataset.embeddings is None:
            raise ConfigError(
                f"Missing key `data.train.{i}.embeddings`. Expected the text embeddings of "
                f"{dataset.name}, which `unidet embed` makes."
            )
        length, found = model.settings.embedding_dim, dataset.embeddings.shape[1]
        if found != length:
            raise ConfigError(
                f"Invalid value for `data.train.{i}.embeddings`. Expected rows of {length} numbers "
                f"for {dataset.name}, as the model's embeddings. Received {found}."
            )
        embeddings.append(dataset.embeddings)
    model.set_training_vocabularies(embeddings)
    model.set_image_counts([dataset.image_counts for dataset in datasets[:count]])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def load_initial_weights(model: Any, path: str) -> str:
    """Starts from a checkpoint, native or published: every tensor of the same shape is taken.

    So a detector of other classes gives all but its output layers, and a classifier its backbone.

    Returns:
        One line that says what was taken and what was left out.

    Raises:
        UserError: no such file, an unknown family, no tensor fits, or one that does is not finite.
    """
    from unidet.checkpoints.load import load_weights
    from unidet.checkpoints.native import non_finite
    from unidet.weights_convert.report import shortened
    from unidet.weights_convert.trees import STATES_BESIDE

    report = load_weights(model, path, strict=False, reinitialise=True)
    counts = report.counts()
    if not counts.get("matched", 0) + counts.get("renamed", 0):
        raise UserError(
            f"Invalid value for `train.weights`. Expected a checkpoint whose tensors fit the "
            f"model. Received {path}, of which none does."
        )
    taken = {str(row.target) for kind in ("matched", "renamed") for row in report.with_status(kind)}
    bad = non_finite({k: v for k, v in nn.state_arrays(model).items() if k in taken})
    if bad is not None:
        raise UserError(
            f"Invalid value for `train.weights`. Expected finite weights. Received {path}, with "
            f"{bad}. The run that wrote it had diverged."
        )
    # Tensors of another shape stay as they were made: those of other classes above all.
    fresh = [str(row.target) for row in report.with_status("reinitialised") if row.source]
    named = f"; of another shape, so fresh: {shortened(fresh)}" if fresh else ""
    named += "" if fresh else _other_order(path, model.class_names or ())
    choice = "".join(f"; {note}" for note in report.notes if note.startswith(STATES_BESIDE))
    return f"weights from {path}: {report.summary()}{named}{choice}"


def _other_order(path: str, names: Sequence[str]) -> str:
    """A remark where a checkpoint of unidet has some of the data's classes in other places."""
    from unidet.checkpoints.native import load_checkpoint

    try:
        theirs = load_checkpoint(path).class_names
    except UserError:
        return ""  # of another origin, which names no classes
    for index, name in enumerate(theirs):
        if name in names and list(names).index(name) != index:
            return (
                f"; its class {index} is {shown(name)}, the data's is {shown(names[index])}: the "
                "layers of the classes start from those of other classes"
            )
    return ""


def build_loader(
    config: Config, datasets: Sequence[DetectionDataset], model: Any, *, train: bool, seed: int
) -> Loader:
    """Batches for training (shuffled, augmented) or for evaluation (in order, all images).

    Of a job of several ranks, each gets its part of each training batch, and every n-th
    batch for evaluation.

    Raises:
        UserError: no images, or an unknown augmentation.
    """
    from unidet.backends.parallel import ranks
    from unidet.data import FirstEpochs, Loader, create_augmentation

    data, world = config.data, ranks.world()
    if train and data.batch_size < world.size:
        raise ConfigError(
            f"Invalid value for `data.batch_size`. Expected {world.size} or more, an image for "
            f"each rank. Received {data.batch_size}."
        )
    shared: dict[str, Any] = {
        "num_workers": data.num_workers,
        "shard": (world.rank, world.size),
        "on_bad": data.on_bad,
        "cache_images": data.cache,
        "cache_gigabytes": data.cache_gigabytes,
        "stall_seconds": data.stall_seconds,
        "stall_error_seconds": data.stall_error_seconds,
    }
    if not train:
        size = config.evaluation.batch_size or data.batch_size
        return Loader(list(datasets), model.preprocess, size, **shared)
    augmentations: list[Any] = []
    for chosen in data.augmentations:
        made = create_augmentation(chosen.name, chosen.arguments)
        augmentations.append(FirstEpochs(made, chosen.epochs) if chosen.epochs else made)
    return Loader(
        list(datasets),
        model.preprocess,
        data.batch_size,
        augmentations=augmentations,
        shuffle=True,
        seed=seed,
        group_by_aspect_ratio=data.group_by_aspect_ratio,
        drop_last=data.drop_last,
        skip_empty=data.skip_empty,
        **shared,
    )


def build_optimizer(config: Config, model: Any, lr: float | None = None) -> Any:
    """The optimizer of the trainable parameters.

    Args:
        config: the run's config.
        model: of either backend.
        lr: takes the place of the config's rate; the rates of groups keep their ratio to it.

    Raises:
        ConfigError: a group that fits no parameter.
    """
    from unidet.backends import optim

    chosen = config.optimizer
    base = chosen.lr if lr is None else lr
    options: dict[str, Any] = {"lr": base, "weight_decay": chosen.weight_decay}
    if chosen.name == "sgd":
        options |= {
            "momentum": chosen.momentum,
            "dampening": chosen.dampening,
            "nesterov": chosen.nesterov,
        }
    else:
        options |= {"betas": chosen.betas, "eps": chosen.eps}
    groups = []
    for group in chosen.groups:
        entry: dict[str, Any] = {"match": list(group.match)}
        if group.lr is not None:
            entry["lr"] = group.lr if lr is None else group.lr / chosen.lr * lr
        if group.weight_decay is not None:
            entry["weight_decay"] = group.weight_decay
        groups.append(entry)
    try:
        return optim.create(
            chosen.name, model, groups=groups or None, decay_biases=chosen.decay_biases, **options
        )
    except ValueError as error:
        raise ConfigError(f"Invalid value for `optimizer`. {error}") from error
