"""Training step and inference of RetinaNet: torch, Jittor, and the same network in plain torch.

All sides run in one process, taking turns, on the same weights and images. A ratio is the median
of the ratios of single rounds, so that a busy machine disturbs both sides alike.

    python benchmarks/retinanet.py --depth 18 --size 240 320 --batch 4 --width 96 --rounds 15
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_twin

import unidet
from unidet.backends import nn, ops, optim, use
from unidet.structures import Targets

Step = Callable[[], float]


def targets(rng: np.random.Generator, count: int, height: int, width: int) -> list[Targets]:
    found = []
    for _ in range(count):
        corner = rng.uniform(0, 0.6, (12, 2)) * (width, height)
        sides = rng.uniform(0.1, 0.4, (12, 2)) * (width, height)
        boxes = np.concatenate([corner, corner + sides], 1).astype(np.float32)
        found.append(Targets(boxes, rng.integers(0, 3, 12)))
    return found


def neutral(
    model: Any, backend: str, images: np.ndarray, goals: list[Targets], train: bool
) -> Step:
    """One step of unidet on a backend: everything but loading and target assignment."""
    like = next(iter(nn.parameters(model).values()))
    optimizer = optim.create("sgd", model, lr=1e-6, momentum=0.9) if train else None
    model.train(train)

    def step() -> float:
        x = ops.asarray(images, like=like)
        if optimizer is None:
            with use(backend), ops.no_grad():
                return float(ops.to_numpy(model(x)["cls_logits"]).ravel()[0])
        losses = model.losses(model(x), goals)
        total = losses["loss_cls"] + losses["loss_box"]
        optimizer.zero_grad()
        optimizer.backward(total)
        optimizer.step()
        return float(ops.item(total))

    return step


def twin(
    weights: dict, images: np.ndarray, goal: Any, args: argparse.Namespace, train: bool
) -> Step:
    """The same step by hand."""
    net = torch_twin.TwinRetinaNet(args.depth, 3, args.width)
    net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
    net.train(train)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)

    def step() -> float:
        x = torch.from_numpy(images)
        if not train:
            with torch.no_grad():
                return float(net(x)[0].ravel()[0])
        total = torch_twin.loss(*net(x), goal())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.item()

    return step


def measure(sides: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for step in sides.values():  # compile, fill caches
        for _ in range(3):
            step()
    names = list(sides)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            started = time.perf_counter()
            sides[name]()
            times[name].append(time.perf_counter() - started)
    return times


def report(title: str, times: dict[str, list[float]]) -> list[dict[str, Any]]:
    print(f"\n{title}")
    rows = []
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times["torch by hand"]))
        versus = statistics.median(a / b for a, b in zip(values, times["unidet torch"]))
        row = {
            "case": title,
            "side": name,
            "median_ms": statistics.median(values) * 1e3,
            "to_hand": ratio,
            "to_torch": versus,
        }
        rows.append(row)
        print(
            f"  {name:14} {row['median_ms']:8.1f} ms   {ratio:5.2f} of torch by hand"
            f"   {versus:5.2f} of unidet torch"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, nargs="+", default=[18, 50])
    parser.add_argument("--size", type=int, nargs=2, default=[240, 320], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    height, width = args.size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(args.batch, 3, height, width)).astype(np.float32)
    goals = targets(rng, args.batch, height, width)
    rows = []
    for depth in args.depth:
        args.depth = depth
        options = {"num_classes": 3, "fpn_channels": args.width, "seed": 0}
        models = {
            backend: unidet.create_model(f"retinanet_r{depth}_fpn", backend=backend, **options)
            for backend in ("torch", "jittor")
        }
        weights = nn.state_arrays(models["torch"])
        layout = models["torch"](ops.asarray(images, backend="torch"))["layout"]
        # By hand the targets are worked out as well: the host's part is the same code.
        goal = functools.partial(models["torch"].assign, layout, goals)
        for train in (False, True):
            sides = {"torch by hand": twin(weights, images, goal, args, train)}
            for backend, model in models.items():
                sides[f"unidet {backend}"] = neutral(model, backend, images, goals, train)
            title = (
                f"RetinaNet-{depth}, {args.batch} x 3 x {height} x {width}, width {args.width}, "
                f"{'training step' if train else 'inference'}, {torch.get_num_threads()} threads"
            )
            rows += report(title, measure(sides, args.rounds))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
