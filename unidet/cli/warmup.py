"""`unidet warmup`: compiles ahead what Jittor would compile during the first steps of a run."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unidet.config import Config
    from unidet.structures import Batch

#: The second step has kernels of its own: it finds the optimizer's state already there.
STEPS = 2
#: Classes where neither the config nor its data say how many.
CLASSES = 80


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    from unidet.cli.train import add_config_arguments

    parser = subparsers.add_parser(
        "warmup",
        help="compile Jittor's kernels for a config ahead of a run",
        description="Builds the model of a config, takes training steps and predicts on random "
        "pictures, so that later runs find their kernels compiled. Needs no data and writes "
        "nothing but Jittor's cache. Kernels hold for every size of picture. On torch, which "
        "compiles nothing, it is a check that the config runs.",
    )
    add_config_arguments(parser)
    parser.set_defaults(backend="jittor")
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        default=(160, 224),
        metavar=("H", "W"),
        help="pictures before preprocessing (default: 160 224)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.backends.registry import resolve
    from unidet.cli.train import QUICKSTART
    from unidet.config import load_config
    from unidet.errors import UserError

    if min(args.size) < 32:
        raise UserError(f"Invalid value for `--size`. Expected 32 or more. Received {args.size}.")
    backend = resolve(args.backend)
    config = load_config(args.config or QUICKSTART, args.overrides)
    seed = config.train.seed if args.seed is None else args.seed
    kernels_before, started = _kernels(backend), time.perf_counter()
    parts: dict[str, Any] = {}

    def prepare() -> None:
        parts.update(_prepare(config, backend, args.device, seed, tuple(args.size)))

    _phase("framework and model", backend, prepare)
    for number in range(STEPS):
        _phase(f"training step {number + 1}", backend, lambda: _train(parts))
    # One picture as `unidet predict` does, and a batch as evaluation in a run does.
    for batch in parts["predict_on"]:
        count = f"{len(batch)} picture{'s' if len(batch) > 1 else ''}"
        _phase(f"prediction, {count}", backend, lambda: _predict(parts["model"], batch))  # noqa: B023
    new = _kernels(backend) - kernels_before
    print(f"done in {time.perf_counter() - started:.1f} s, {new} kernels newly compiled")
    return 0


def _phase(name: str, backend: str, work: Callable[[], None]) -> None:
    before, started = _kernels(backend), time.perf_counter()
    work()
    seconds, new = time.perf_counter() - started, _kernels(backend) - before
    print(f"{name:24s} {seconds:7.1f} s  {new:4d} kernels compiled", flush=True)


def _kernels(backend: str) -> int:
    if backend != "jittor":
        return 0
    from unidet.doctor_jittor import cache_folder, read_cache

    return read_cache(cache_folder()).kernels


def _prepare(
    config: Config, backend: str, device: str, seed: int, size: tuple[int, int]
) -> dict[str, Any]:
    from unidet.engine.setup import build_model, build_optimizer
    from unidet.engine.stepper import Stepper

    datasets = _empty_datasets(config)
    model = build_model(config, datasets, backend=backend, device=device, seed=seed)
    count = int(config.model.arguments.get("num_classes", datasets[0].num_classes))
    training = _batch(model, config.data.batch_size, size, count, seed)
    predicted = sorted({1, config.evaluation.batch_size or config.data.batch_size})
    stepper = Stepper(
        model,
        build_optimizer(config, model),
        clip_grad_norm=config.train.clip_grad_norm,
        amp=config.train.amp,
        device=device,
        compiled=config.train.compile,
    )
    return {
        "model": model,
        "stepper": stepper,
        "micro_batches": [training] * config.train.accumulate,
        "predict_on": [_batch(model, images, size, count, seed) for images in predicted],
    }


def _empty_datasets(config: Config) -> list[Any]:
    """What decides the shape of a model: classes and, where it compares with text, any vectors."""
    import numpy as np

    from unidet.data import DetectionDataset
    from unidet.models import model_spec

    names = tuple(_class_names(config))
    spec = model_spec(config.model.name)
    vocabularies = list(dict.fromkeys(source.embeddings for source in config.data.train)) or [""]
    length = {**spec.defaults, **config.model.arguments}.get("embedding_dim", 1024)
    rows = np.ones((len(names), int(length)), np.float32)
    datasets = []
    for part, _ in enumerate(vocabularies if "vocabulary_sizes" in spec.accepts else [""]):
        own = names if part == 0 else tuple(f"{name} {part}" for name in names)
        ids = tuple(range(len(own)))
        datasets.append(DetectionDataset("warm-up", [], own, ids, [], embeddings=rows))
    return datasets


def _class_names(config: Config) -> Sequence[str]:
    if config.data.class_names:
        return config.data.class_names
    if config.data.format == "scenes":
        from unidet.data.scenes import SCENE_CLASSES

        return SCENE_CLASSES
    count = int(config.model.arguments.get("num_classes", CLASSES))
    return [f"class {index}" for index in range(count)]


def _batch(model: Any, images: int, size: tuple[int, int], classes: int, seed: int) -> Batch:
    """Random pictures, each with two objects that lie well inside."""
    import numpy as np

    from unidet.backends.random import stream
    from unidet.models.calling import example_proposals
    from unidet.structures import Targets

    draw = stream(seed, "warmup", images)
    pictures = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(images)]
    batch = model.preprocess.batch(pictures)
    targets = []
    for height, width in batch.image_sizes:
        corners = np.array([[0.1, 0.1, 0.6, 0.7], [0.4, 0.3, 0.9, 0.8]], np.float32)
        boxes = corners * np.array([width, height] * 2, np.float32)
        targets.append(Targets(boxes, np.arange(2, dtype=np.int64) % classes))
    return dataclasses.replace(
        batch,
        targets=targets,
        image_ids=list(range(images)),
        proposals=example_proposals(model, batch.image_sizes),
    )


def _train(parts: dict[str, Any]) -> None:
    from unidet.backends import nn
    from unidet.errors import RunFailedError

    def check(values: Any) -> None:
        if not math.isfinite(values["loss"]):
            raise RunFailedError(f"The loss of a training step is {values['loss']}.")

    parts["model"].train()
    parts["stepper"].step(parts["micro_batches"], 1.0, check)
    # Jittor computes, and so compiles, the update only when someone reads its results.
    parts["stepper"].optimizer.state_arrays()
    nn.state_arrays(parts["model"])


def _predict(model: Any, batch: Batch) -> None:
    from unidet.evaluation.run import predictions

    for _ in predictions(model, [batch]):
        pass
