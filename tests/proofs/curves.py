"""Loss curves of short runs, and the run in double precision that judges them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

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
    """The same run on torch in double precision, at a constant rate: what both try to be."""
    trainer = Trainer(chosen, RunFolder(folder), backend="torch", device="cpu")
    trainer.start_from(chosen.train.weights)
    trainer.model.double().train()
    losses: list[float] = []
    for epoch in range(chosen.train.epochs):
        with trainer.loader.epoch(epoch) as batches:
            for batch in batches:
                wide = dataclasses.replace(batch, images=batch.images.astype(np.float64))
                with random.at(chosen.train.seed, "step", len(losses)):
                    values = trainer.stepper.step([wide], 1.0, lambda values: None)
                losses.append(values["loss"])
                if len(losses) == chosen.train.max_steps:
                    return np.array(losses)
    return np.array(losses)


def apart(a: np.ndarray, b: np.ndarray, steps: int | None = None) -> float:
    """Largest relative distance of two curves within the first ``steps``, or in all."""
    return float((np.abs(a - b) / np.abs(b))[:steps].max())
