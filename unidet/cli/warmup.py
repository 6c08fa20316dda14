"""`unidet warmup`: compiles Jittor's operators before the first run needs them."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unidet.config import Config
    from unidet.structures import Batch

#: The second step finds the optimizer's state already there, the third finds its own.
STEPS = 3
#: Objects of a picture.
OBJECTS = 2
#: Height and width of pictures where neither the config nor the command says them.
SIZE = (160, 224)
#: Classes where neither the config nor its data say how many.
CLASSES = 80


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    from unidet.cli.train import add_config_arguments

    parser = subparsers.add_parser(
        "warmup",
        help="compile Jittor's kernels for a config ahead of a run",
        description="Builds the model of a config and does on random pictures what a run does: "
        "training steps with full batches, with one picture and without objects, the moving "
        "average, predictions, validation losses. Later runs then find all kernels compiled. "
        "Needs no data and writes nothing but Jittor's cache. Kernels hold for every size of "
        "picture. On torch, which compiles nothing, it is a check that the config runs.",
    )
    add_config_arguments(parser)
    parser.set_defaults(backend="jittor")
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="pictures before preprocessing (default: those of data.scenes where the config "
        f"generates its data, else {SIZE[0]} {SIZE[1]})",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.backends.registry import resolve
    from unidet.cli.train import QUICKSTART
    from unidet.config import load_config
    from unidet.errors import UserError

    if args.size is not None and min(args.size) < 32:
        raise UserError(f"Invalid value for `--size`. Expected 32 or more. Received {args.size}.")
    backend = resolve(args.backend)
    config = load_config(args.config or QUICKSTART, args.overrides)
    seed = config.train.seed if args.seed is None else args.seed
    size = _size(config) if args.size is None else tuple(args.size)
    kernels_before, started = _kernels(backend), time.perf_counter()
    trial: list[_Trial] = []

    def prepare() -> None:
        trial.append(_Trial(config, backend, args.device, seed, size))

    _phase("framework and model", backend, prepare)
    for name, work in trial[0].phases():
        _phase(name, backend, work)
    new = _kernels(backend) - kernels_before
    print(f"done in {time.perf_counter() - started:.1f} s, {new} kernels newly compiled")
    return 0


def _size(config: Config) -> tuple[int, int]:
    scenes = config.data.scenes
    return (scenes.height, scenes.width) if config.data.format == "scenes" else SIZE


def _phase(name: str, backend: str, work: Callable[[], None]) -> None:
    before, started = _kernels(backend), time.perf_counter()
    work()
    seconds, new = time.perf_counter() - started, _kernels(backend) - before
    print(f"{name:32s} {seconds:7.1f} s  {new:4d} kernels compiled", flush=True)


def _kernels(backend: str) -> int:
    if backend != "jittor":
        return 0
    from unidet.doctor.jittor import cache_folder, read_cache

    return read_cache(cache_folder()).kernels


class _Trial:
    """A run in small: everything that it computes on its way, once."""

    def __init__(
        self, config: Config, backend: str, device: str, seed: int, size: tuple[int, int]
    ) -> None:
        from unidet.engine.ema import Ema
        from unidet.engine.setup import build_model, build_optimizer
        from unidet.engine.stepper import Stepper

        datasets = _empty_datasets(config)
        self.config, self.seed, self.size = config, seed, size
        self.model = build_model(config, datasets, backend=backend, device=device, seed=seed)
        self.classes = int(config.model.arguments.get("num_classes", datasets[0].num_classes))
        options = config.train
        self.stepper = Stepper(
            self.model,
            build_optimizer(config, self.model),
            clip_grad_norm=options.clip_grad_norm,
            amp=options.amp,
            device=device,
            compiled=options.compile,
        )
        self.ema = None if options.ema_decay is None else Ema(self.model, options.ema_decay)
        self.steps = 0

    def phases(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Names and work, in the order of a run."""
        data, accumulate = self.config.data, self.config.train.accumulate
        full = self.batch(data.batch_size)
        for number in range(STEPS):
            yield f"training step {number + 1}", lambda: self.train([full] * accumulate)
        yield "saving and resuming", self.save
        for number in range(2):
            yield f"training step {number + 1} of that", lambda: self.train([full] * accumulate)
        if accumulate > 1:
            # The last step of an epoch may be made of fewer.
            yield "training step, not accumulated", lambda: self.train([full])
        yield "training step, no object", lambda: self.train([self.batch(data.batch_size, 0)])
        if data.batch_size > 1 and not data.drop_last:
            # The last batch of an epoch may hold one picture, with objects or without.
            for objects in (OBJECTS, 0):
                yield (
                    f"training step, 1 picture{'' if objects else ', no object'}",
                    lambda objects=objects: self.train([self.batch(1, objects)]),  # type: ignore[misc]
                )
        # One picture as `unidet predict` does, and a batch as evaluation in a run does.
        for images in sorted({1, self.config.evaluation.batch_size or data.batch_size}):
            batch = self.batch(images)
            count = f"{images} picture{'s' if images > 1 else ''}"
            yield f"prediction, {count}", lambda batch=batch: self.predict(batch)  # type: ignore[misc]
            if self.config.evaluation.losses:
                yield (
                    f"validation losses, {count}",
                    lambda images=images: self.validate(images),  # type: ignore[misc]
                )

    def batch(self, images: int, objects: int = OBJECTS) -> Batch:
        """Random pictures with the given number of objects each."""
        return _batch(self.model, images, self.size, self.classes, self.seed, objects)

    def train(self, batches: list[Batch]) -> None:
        """One optimizer step."""
        from unidet.backends import random
        from unidet.errors import RunFailedError

        def check(values: Any) -> None:
            if not math.isfinite(values["loss"]):
                raise RunFailedError(f"The loss of a training step is {values['loss']}.")

        self.model.train()
        with random.at(self.seed, "warmup", self.steps):
            self.stepper.step(batches, 1.0, check)
        self.steps += 1
        if self.ema is not None:
            self.ema.update(self.steps)

    def save(self) -> None:
        """Saves and goes on from there, as far as the device sees it.

        Steps before and after compile different kernels.
        """
        from unidet.backends import nn

        if self.ema is not None:
            self.ema.load_state_arrays(self.ema.state_arrays())
        optimizer = self.stepper.optimizer
        optimizer.load_state_arrays(optimizer.state_arrays())
        nn.load_arrays(self.model, nn.state_arrays(self.model))

    def predict(self, batch: Batch) -> None:
        """Detections of a batch, with weights as they are and freshly loaded."""
        from unidet.backends import nn
        from unidet.engine.validation import weights_of
        from unidet.evaluation.run import predictions

        for weights in (None, nn.state_arrays(self.model)):
            with weights_of(self.model, weights):
                for _ in predictions(self.model, [batch]):
                    pass

    def validate(self, images: int) -> None:
        """Losses in evaluation mode."""
        from unidet.engine.validation import validation_losses

        validation_losses(self.model, [self.batch(images), self.batch(images, 0)])


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


def _batch(
    model: Any, images: int, size: tuple[int, int], classes: int, seed: int, objects: int
) -> Batch:
    """Random pictures, each with the given number of objects (at most two) that lie well inside."""
    import numpy as np

    from unidet.backends.random import stream
    from unidet.models.base import example_proposals
    from unidet.structures import Targets

    draw = stream(seed, "warmup", images)
    pictures = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(images)]
    batch = model.preprocess.batch(pictures)
    targets = []
    for height, width in batch.image_sizes:
        corners = np.array([[0.1, 0.1, 0.6, 0.7], [0.4, 0.3, 0.9, 0.8]], np.float32)[:objects]
        boxes = corners * np.array([width, height] * 2, np.float32)
        targets.append(Targets(boxes, np.arange(objects, dtype=np.int64) % classes))
    return dataclasses.replace(
        batch,
        targets=targets,
        image_ids=list(range(images)),
        proposals=example_proposals(model, batch.image_sizes),
    )
