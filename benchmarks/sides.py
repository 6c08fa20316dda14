"""What the benchmarks of whole models share: the sides, and how they take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from heap import as_alone

from unidet.backends import nn, ops, optim, random
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


def unidet_step(
    model: Any,
    outputs: Callable[[], dict[str, Any]],
    goals: list[Targets],
    train: bool,
    answer: Callable[[dict[str, Any]], float],
) -> Step:
    """One step of unidet, from ``outputs`` to ``answer`` or to new weights."""
    optimizer = optim.create("sgd", model, lr=1e-6, momentum=0.9) if train else None
    model.train(train)

    def step() -> float:
        if optimizer is None:
            with ops.no_grad():
                return answer(outputs())
        with random.at(0, "step", 0):
            total, *others = model.losses(outputs(), goals).values()
        for value in others:
            total = total + value
        optimizer.zero_grad()
        optimizer.backward(total)
        optimizer.step()
        return float(ops.item(total))

    return step


def torch_step(
    net: torch.nn.Module, answer: Callable[[], float], loss: Callable[[], torch.Tensor], train: bool
) -> Step:
    """The same step in plain torch."""
    net.train(train)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)

    def step() -> float:
        if not train:
            with torch.no_grad():
                return answer()
        total = loss()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.item()

    return step


def neutral(model: Any, images: np.ndarray, goals: list[Targets], train: bool) -> Step:
    """One step of unidet, from images on the host to logits or new weights."""
    like = next(iter(nn.parameters(model).values()))
    return unidet_step(
        model,
        lambda: model(ops.asarray(images, like=like)),
        goals,
        train,
        lambda outputs: float(ops.to_numpy(outputs["cls_logits"]).ravel()[0]),
    )


def by_hand(
    net: torch.nn.Module,
    images: np.ndarray,
    logits: Callable[[torch.Tensor], torch.Tensor],
    loss: Callable[[torch.Tensor], torch.Tensor],
    train: bool,
) -> Step:
    """The same step in plain torch."""
    return torch_step(
        net,
        lambda: float(logits(torch.from_numpy(images)).ravel()[0]),
        lambda: loss(torch.from_numpy(images)),
        train,
    )


def load(net: torch.nn.Module, model: Any) -> None:
    """Gives a network by hand the weights of a model, strictly."""
    net.load_state_dict(
        {k: torch.from_numpy(np.array(v)) for k, v in nn.state_arrays(model).items()}
    )


def measure(sides: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for name, step in sides.items():  # compile, fill caches
        as_alone(name)
        for _ in range(3):
            step()
    names = list(sides)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            as_alone(name)
            started = time.perf_counter()
            sides[name]()
            times[name].append(time.perf_counter() - started)
    return times


def report(
    title: str, times: dict[str, list[float]], peer: str = "torch by hand"
) -> list[dict[str, Any]]:
    """Prints medians, and medians of the ratios to a peer and to unidet on torch."""
    print(f"\n{title}")
    rows = []
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times[peer]))
        versus = statistics.median(a / b for a, b in zip(values, times["unidet torch"]))
        row = {
            "case": title,
            "side": name,
            "median_ms": statistics.median(values) * 1e3,
            "to_peer": ratio,
            "to_torch": versus,
        }
        rows.append(row)
        print(
            f"  {name:14} {row['median_ms']:8.1f} ms   {ratio:5.2f} of {peer}"
            f"   {versus:5.2f} of unidet torch"
        )
    return rows
