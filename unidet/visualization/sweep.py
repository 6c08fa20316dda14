"""The picture of a sweep: curves of its versions, and what each has reached."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unidet.visualization.curves import COLOURS, finish, new_figure, save_figure

if TYPE_CHECKING:  # Matplotlib is imported where something is drawn
    from matplotlib.axes import Axes

_MARKERS = ("o", "s", "^", "D")
#: Steps and values of one run.
Series = tuple[np.ndarray, np.ndarray]


def plot_sweep(
    curves: Mapping[str, Sequence[Series]],
    reached: Mapping[str, Sequence[float]],
    metric: str,
    out: str | Path,
) -> Path:
    """Draws the mean curve of each version with the range of its runs, and their best values.

    Args:
        curves: version to the curves of its runs.
        reached: version, in the order from top to bottom, to the best value of each run.
        metric: that they show.
        out: file to write.

    Returns:
        The file.

    Raises:
        UserError: the suffix is unknown or the folder cannot be written.
    """
    height = max(4.2, 1.4 + 0.3 * len(reached))
    figure = new_figure(13.0, height)
    left, right = figure.subplots(1, 2)
    # A marker for each round of colours, so that more versions than colours stay apart.
    styles = {
        name: (COLOURS[i % len(COLOURS)], _MARKERS[i // len(COLOURS) % len(_MARKERS)])
        for i, name in enumerate(reached)
    }
    last = 1.0
    for name, runs in curves.items():
        if runs:
            last = max(last, _curve(left, runs, *styles[name]))
    finish(left, metric, legend=False, last=last)
    for place, (name, values) in enumerate(reached.items()):
        _dots(right, place, values, *styles[name])
    right.set_yticks(range(len(reached)), list(reached), fontsize=8)
    for label, name in zip(right.get_yticklabels(), reached):
        label.set_color(styles[name][0])
    right.set_ylim(len(reached) - 0.5, -0.5)
    right.set_title(f"best {metric}", fontsize=11)
    right.grid(True, axis="x", color="#dddddd", linewidth=0.6)
    right.set_axisbelow(True)
    right.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, Path(out))


def _curve(axis: Axes, runs: Sequence[Series], colour: str, marker: str) -> float:
    """Mean and range over the runs, each at the steps at which any was evaluated; the last step."""
    steps = np.unique(np.concatenate([own for own, _ in runs]))
    # A run that ended early has no value from there on.
    rows = np.stack(
        [np.interp(steps, own, values, left=np.nan, right=np.nan) for own, values in runs]
    )
    known = np.isfinite(rows)
    steps, rows, known = (part[..., known.any(axis=0)] for part in (steps, rows, known))
    if not len(steps):
        return 1.0
    mean = np.where(known, rows, 0).sum(axis=0) / known.sum(axis=0)
    low = np.where(known, rows, np.inf).min(axis=0)
    high = np.where(known, rows, -np.inf).max(axis=0)
    axis.plot(steps, mean, color=colour, marker=marker, markersize=4, linewidth=1.6)
    if len(runs) > 1:
        axis.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0)
    return float(steps[-1])


def _dots(axis: Axes, place: int, values: Sequence[float], colour: str, marker: str) -> None:
    """One dot for each run; with several, their mean and its standard deviation of a sample."""
    axis.plot(values, [place] * len(values), marker, color=colour, alpha=0.55, markersize=6)
    if len(values) > 1:
        axis.errorbar(
            statistics.fmean(values),
            place,
            xerr=statistics.stdev(values),
            fmt="|",
            color=colour,
            markersize=14,
            capsize=4,
        )
