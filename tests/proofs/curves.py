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
from unidet.engine.checkpointing import find_state, load_state
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
    moments_of: Path | None = None,
) -> np.ndarray:
    """Losses of the first steps of a run, at a constant rate.

    Args:
        chosen: the run, which starts from ``train.weights``.
        folder: of the run.
        backend: its framework.
        double: compute in double precision (torch alone).
        samples: what a two-stage model shall learn in each step. An empty list is filled with what
            this run draws, a full one takes the place of drawing.
        moments_of: folder of a run whose optimizer state is taken over.
    """
    trainer = Trainer(chosen, RunFolder(folder), backend=backend, device="cpu")
    trainer.start_from(chosen.train.weights)
    model = trainer.model.double() if double else trainer.model
    if moments_of is not None:
        kind = np.float64 if double else np.float32
        moments = load_state(find_state(moments_of)).optimizer
        trainer.optimizer.load_state_arrays({k: v.astype(kind) for k, v in moments.items()})
    model.train()
    if samples is not None:
        model.training_targets = _shared(model.training_targets, samples)
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


def check_overlay(
    title: str,
    chosen: Config,
    folder: Path,
    count: int,
    *,
    first: int | None = None,
    share_samples: bool = False,
    moments_of: Path | None = None,
) -> None:
    """Runs a config on torch, on Jittor and in double precision, and compares the curves.

    Args:
        title: for what is printed.
        chosen: the run, which starts from ``train.weights``.
        folder: gets a folder for each run.
        count: steps.
        first: steps that must agree within 1e-3; all by default.
        share_samples: all runs learn from what torch drew.
        moments_of: see :func:`steps`.
    """
    samples: list[Any] | None = [] if share_samples else None
    options: dict[str, Any] = {"samples": samples, "moments_of": moments_of}
    torch = steps(chosen, folder / "torch", "torch", **options)
    assert samples is None or len(samples) == count
    jittor = steps(chosen, folder / "jittor", "jittor", **options)
    exact = steps(chosen, folder / "judge", "torch", double=True, **options)
    assert len(torch) == len(jittor) == len(exact) == count
    pairs = {
        "torch and Jittor": (jittor, torch),
        "torch and double precision": (torch, exact),
        "Jittor and double precision": (jittor, exact),
    }
    near = first or count
    found = "; ".join(
        f"{name} {apart(*pair, near):.1e} apart over {near} steps, {apart(*pair):.1e} over {count}"
        for name, pair in pairs.items()
    )
    print(f"\n{title}: loss {torch[0]:.3f} to {torch[-1]:.3f}; {found}")
    assert np.ptp(torch) > 0.05
    assert apart(jittor, torch, near) <= 1e-3


def _shared(draw: Callable[..., Any], samples: list[Any]) -> Callable[..., Any]:
    given = iter(list(samples))

    def record(outputs: Any, targets: Any) -> Any:
        samples.append(draw(outputs, targets))
        return samples[-1]

    return (lambda outputs, targets: next(given)) if samples else record


def apart(a: np.ndarray, b: np.ndarray, steps: int | None = None) -> float:
    """Largest relative distance of two curves within the first ``steps``, or in all."""
    return float((np.abs(a - b) / np.abs(b))[:steps].max())
