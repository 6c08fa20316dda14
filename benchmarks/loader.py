"""What the loader brings, what a training step eats, and how long training waits for it.

The recipe is that of ``retinanet_r18_bccd``: decode, flip, zoom, resize to 240 x 320, batches of
four. The first table counts images a second when nothing else runs, the second the same loader
beside real training steps: the share of the time that these wait for a batch.

    UNIDET_TEST_DATA=DIR python benchmarks/loader.py [--root BCCD] [--steps 40] [--backend torch]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from unidet.backends import available, random
from unidet.config import Config, load_config
from unidet.engine import setup
from unidet.engine.stepper import Stepper

RECIPE = "retinanet_r18_bccd"
WORKERS = (0, 1, 2)
#: Steps before the clock starts: Jittor finds its kernels, allocators their memory.
UNTIMED = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("UNIDET_TEST_DATA")
    default = Path(data) / "data" / "bccd" if data else None
    parser.add_argument("--root", type=Path, default=default, help="folder of BCCD")
    parser.add_argument("--steps", type=int, default=40, help="timed training steps of each row")
    parser.add_argument("--epochs", type=int, default=3, help="timed passes of the loader alone")
    parser.add_argument("--backend", choices=available(), action="append")
    args = parser.parse_args()
    if args.root is None or not args.root.is_dir():
        sys.exit("BCCD is not here: set UNIDET_TEST_DATA or give --root")
    brought = loader_alone(args.root, args.epochs)
    for backend in args.backend or available():
        training(args.root, backend, args.steps, brought)


def chosen(root: Path, workers: int, cache: bool) -> Config:
    keys = {"root": root, "num_workers": workers, "cache": str(cache).lower()}
    return load_config(RECIPE, [f"data.{key}={value}" for key, value in keys.items()])


def loader_alone(root: Path, epochs: int) -> dict[int, float]:
    """Images a second by number of workers, with the cache; prints them without it too."""
    print(f"{RECIPE}: images a second, the loader alone")
    print(f"  {'workers':8}{'decoded each time':>20}{'from the cache':>18}")
    found: dict[int, float] = {}
    model = _model(root, available()[0])
    for workers in WORKERS:
        speeds = [_speed(root, model, workers, cache, epochs) for cache in (False, True)]
        print(f"  {workers:<8}{speeds[0]:20.0f}{speeds[1]:18.0f}")
        found[workers] = speeds[0]
    return found


def _speed(root: Path, model: Any, workers: int, cache: bool, epochs: int) -> float:
    config = chosen(root, workers, cache)
    sets = setup.load_datasets(config, "train", Path())
    loader = setup.build_loader(config, sets, model, train=True, seed=0)
    speeds = []
    for epoch in range(1 + epochs):  # the first fills the cache, and the system's of the files
        images, started = 0, time.perf_counter()
        for batch in loader.epoch(epoch):
            images += len(batch)
        speeds.append(images / (time.perf_counter() - started))
    return statistics.median(speeds[1:])


def _model(root: Path, backend: str) -> Any:
    config = chosen(root, 0, cache=False)
    sets = setup.load_datasets(config, "train", Path())
    return setup.build_model(config, sets, backend=backend, device="cpu", seed=0)


def training(root: Path, backend: str, steps: int, brought: dict[int, float]) -> None:
    """Trains beside the loader and prints the share of the time that went into waiting."""
    model = _model(root, backend)
    config = chosen(root, 0, cache=False)
    optimizer = setup.build_optimizer(config, model)
    stepper = Stepper(model, optimizer, clip_grad_norm=config.train.clip_grad_norm)
    print(f"\ntraining on {backend}, {steps} steps: waits for the loader")
    print(
        f"  {'workers':8}{'cache':6}{'step':>10}{'images a second':>18}{'waits':>10}{'share':>9}"
        f"{'loader alone':>15}"
    )
    for cache in (False, True):
        for workers in WORKERS:
            config = chosen(root, workers, cache)
            sets = setup.load_datasets(config, "train", Path())
            loader = setup.build_loader(config, sets, model, train=True, seed=0)
            waits, works, images = _train(stepper, loader, steps)
            total = waits + works
            alone = f"{brought[workers] / (images / works):.0f} x" if not cache else ""
            print(
                f"  {workers:<8}{'yes' if cache else 'no':6}{works / steps * 1e3:7.0f} ms"
                f"{images / total:18.1f}{waits / steps * 1e3:7.1f} ms{waits / total:8.1%}"
                f"{alone:>15}"
            )


def _train(stepper: Stepper, loader: Any, steps: int) -> tuple[float, float, int]:
    """Seconds of waiting, seconds of training and images of so many steps."""
    waits = works = 0.0
    images = 0
    stepper.model.train()
    batches = loader.endless()
    for step in range(UNTIMED + steps):
        started = time.perf_counter()
        batch = next(batches)
        came = time.perf_counter()
        with random.at(0, "step", step):
            stepper.step([batch], 0.01, lambda values: None)
        if step >= UNTIMED:
            waits += came - started
            works += time.perf_counter() - came
            images += len(batch)
    batches.close()
    return waits, works, images


if __name__ == "__main__":
    main()
