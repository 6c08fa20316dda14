"""Loss curves of short runs, and the run in double precision that judges them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unidet.backends import random
from unidet.config import Config
from unidet.engine.run_folder import RunFolder
from unidet.engine.trainer import Trainer


def curve(folder: Path) -> np.ndarray:
    """The loss of every step of a run that logs each."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = {row["step"]: row["loss"] for row in rows if "loss" in row}
    return np.array([steps[step] for step in sorted(steps)])


def judge(chosen: Config, folder: Path) -> np.ndarray:
    """The run of a config in double precision: what both backends try to be."""
    return steps(chosen, folder, "torch", double=True)


def steps(
    chosen: Config,
    folder: Path,
    backend: str,
    *,
    double: bool = False,
    samples: list[Any] | None = None,
) -> np.ndarray:
    """Losses of the first steps of a run, at a constant rate.

    Args:
        chosen: the run, which starts from ``train.weights``.
        folder: of the run.
        backend: its framework.
        double: compute in double precision (torch alone).
        samples: what a two-stage model shall learn in each step. An empty list is filled with what
            this run draws, a full one takes the place of drawing.
    """
    trainer = Trainer(chosen, RunFolder(folder), backend=backend, device="cpu")
    trainer.start_from(chosen.train.weights)
    model = trainer.model.double() if double else trainer.model
    model.train()
    if samples is not None:
        model.goals = _shared(model.goals, samples)
    losses: list[float] = []
    for epoch in range(chosen.train.epochs):
        with trainer.loader.epoch(epoch) as batches:
            for batch in batches:
                if double:
                    batch = dataclasses.replace(batch, images=batch.images.astype(np.float64))
                with random.at(chosen.train.seed, "step", len(losses)):
                    values = trainer.stepper.step([batch], 1.0, lambda values: None)
                losses.append(values["loss"])
                if len(losses) == chosen.train.max_steps:
                    return np.array(losses)
    return np.array(losses)


def _shared(draw: Callable[..., Any], samples: list[Any]) -> Callable[..., Any]:
    given = iter(list(samples))

    def record(outputs: Any, targets: Any) -> Any:
        samples.append(draw(outputs, targets))
        return samples[-1]

    return (lambda outputs, targets: next(given)) if samples else record


def apart(a: np.ndarray, b: np.ndarray, steps: int | None = None) -> float:
    """Largest relative distance of two curves within the first ``steps``, or in all."""
    return float((np.abs(a - b) / np.abs(b))[:steps].max())
