"""The learning-rate range test (Smith 2017): raise the rate until the loss breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unidet.backends import random
from unidet.backends.registry import resolve as resolve_backend
from unidet.backends.registry import use
from unidet.config import Config, from_mapping, resolve
from unidet.engine import setup
from unidet.engine.divergence import Diverged
from unidet.engine.smoothing import MovingAverage
from unidet.engine.stepper import Stepper
from unidet.errors import UserError
from unidet.structures import Batch

if TYPE_CHECKING:
    pass

#: Factor of the moving average of the losses.
SMOOTHING = 0.9
#: The sweep ends where the smoothed loss is this many times its lowest value.
BREAK = 4.0


@dataclass(frozen=True)
class RangeTest:
    """Losses over rising learning rates.

    Attributes:
        rates: ``(n,)``, rising.
        losses: ``(n,)``, total loss of each step.
        smooth: ``(n,)``, moving average, corrected for its start.
        suggestion: rate at which the smoothed loss falls fastest, None when it never falls.
        broke_at: rate at which the sweep ended early, None when it did not.
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    suggestion: float | None
    broke_at: float | None


def sweep(lowest: float, highest: float, steps: int) -> np.ndarray:
    """``steps`` rates from ``lowest`` to ``highest``, each the same factor above the last."""
    if not 0 < lowest < highest < math.inf:
        raise UserError(
            f"Invalid value for the range of rates. Expected 0 < lowest < highest. "
            f"Received {lowest:g} and {highest:g}."
        )
    if steps < 10:
        raise UserError(f"Invalid value for `steps`. Expected 10 or more. Received {steps}.")
    return np.geomspace(lowest, highest, steps)


def range_test(
    config: Config,
    *,
    backend: str | None = None,
    device: str = "cpu",
    work_dir: str | Path,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
) -> RangeTest:
    """Trains a fresh model with exponentially rising rates and throws it away.

    Args:
        config: the run's config; its schedule is not used.
        backend: "torch" or "jittor".
        device: "cpu" or "cuda".
        work_dir: where generated scenes go.
        lowest: first rate.
        highest: last rate.
        steps: optimizer steps, at least 10.

    Raises:
        UserError: bad input, or the loss broke before there was anything to judge.
    """
    backend = resolve_backend(backend)
    config = from_mapping(resolve(config))
    rates = sweep(lowest, highest, steps)
    losses: list[float] = []
    with use(backend):
        stepper, batches = _prepare(config, backend, device, Path(work_dir))
        try:
            for number, rate in enumerate(rates):
                group = [next(batches) for _ in range(config.train.accumulate)]
                with random.at(config.train.seed, "step", number):
                    # The base rate is 1, so the scale is the rate.
                    stepper.step(group, float(rate), lambda values: _judge(losses, values["loss"]))
        except Diverged:
            pass
    return analyse(rates[: len(losses)], np.array(losses), broke=len(losses) < len(rates))


def _prepare(
    config: Config, backend: str, device: str, folder: Path
) -> tuple[Stepper, Iterator[Batch]]:
    seed = config.train.seed
    datasets = setup.load_datasets(config, "train", folder)
    model = setup.build_model(config, datasets, backend=backend, device=device, seed=seed)
    if config.train.weights:
        setup.load_initial_weights(model, config.train.weights)
    loader = setup.build_loader(config, datasets, model, train=True, seed=seed)
    model.train()
    stepper = Stepper(
        model,
        setup.build_optimizer(config, model, lr=1.0),
        clip_grad_norm=config.train.clip_grad_norm,
        amp=config.train.amp,
        device=device,
        compiled=config.train.compile,
    )
    return stepper, loader.endless()


def _judge(losses: list[float], loss: float) -> None:
    if not math.isfinite(loss):
        raise Diverged("the loss is not finite")
    losses.append(loss)
    smooth = smoothed(np.array(losses))
    if len(losses) > 10 and smooth[-1] > BREAK * smooth.min():
        raise Diverged("the loss has broken out")


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Moving average of ``(n,)`` losses, free of the pull of its start (Kingma and Ba 2015)."""
    average = MovingAverage(SMOOTHING)
    return np.array([average.add(loss) for loss in losses])


def analyse(rates: np.ndarray, losses: np.ndarray, *, broke: bool) -> RangeTest:
    """Reads a sweep.

    Args:
        rates: ``(n,)``, rising.
        losses: ``(n,)``.
        broke: whether the sweep ended early.

    Raises:
        UserError: fewer than ten losses.
    """
    if len(losses) < 10:
        raise UserError(
            f"The loss broke after {len(losses)} steps, at a rate of "
            f"{rates[-1] if len(rates) else 0:.3g}. Expected at least 10 steps: start lower."
        )
    smooth = smoothed(losses)
    # The steepest fall lies before the lowest point; beyond it the run is already breaking.
    end = max(int(np.argmin(smooth)) + 1, 2)
    slopes = np.gradient(smooth[:end], np.log(rates[:end]))
    steepest = int(np.argmin(slopes))
    suggestion = float(rates[steepest]) if slopes[steepest] < 0 else None
    return RangeTest(rates, losses, smooth, suggestion, float(rates[-1]) if broke else None)


def plot(result: RangeTest, out: str | Path) -> Path:
    """Draws the losses over the rate, with the suggestion.

    Raises:
        UserError: the file cannot be written.
    """
    from unidet.visualization.curves import new_figure, save_figure

    figure = new_figure(6.4, 4.0)
    axis = figure.add_subplot()
    axis.plot(result.rates, result.losses, color="#1f6fb4", alpha=0.28, linewidth=1.0)
    axis.plot(result.rates, result.smooth, color="#1f6fb4", linewidth=1.9)
    axis.set_xscale("log")
    axis.set_ylim(0, 1.15 * float(np.max(result.smooth)))
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss")
    if result.suggestion is not None:
        axis.axvline(result.suggestion, color="#d9541e", linestyle="--", linewidth=1.2)
        axis.set_title(f"steepest fall at {result.suggestion:.2g}", fontsize=11)
    axis.grid(True, color="#dddddd", linewidth=0.6)
    return save_figure(figure, Path(out))
