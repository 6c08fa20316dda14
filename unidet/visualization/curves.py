"""Loss and metric curves of runs, read from their ``metrics.jsonl``."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unidet.data.images import write_bytes
from unidet.engine.smoothing import MovingAverage
from unidet.errors import UserError, suggestion
from unidet.evaluation.compare import distinct_names
from unidet.evaluation.run_log import METRICS_FILE, RunMetrics, read_metrics
from unidet.files.outputs import check_output, make_parent

if TYPE_CHECKING:  # Matplotlib is imported where something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest factor of the moving average.
SMOOTHING = 0.9
#: The average reaches back over one loss for each 40 logged ones: in a short run it would
#: otherwise lag behind over a good part of the curve.
POINTS = 40
#: A first loss above this is left out: it would flatten the rest of the curve.
FIRST_LOSS_LIMIT = 100.0
#: Of lines, one after the other.
COLOURS = (
    "#1f6fb4", "#d9541e", "#2a9348", "#8a4fbf", "#b8860b",
    "#c2337a", "#117f8a", "#6b4a3a", "#5b6470", "#93a31a",
)  # fmt: skip


def moving_average(values: np.ndarray, factor: float | None = None) -> np.ndarray:
    """Exponential moving average of a curve, see :class:`unidet.engine.smoothing.MovingAverage`.

    Without a factor, one that suits the number of values, ``SMOOTHING`` at most.
    """
    if factor is None:
        factor = min(SMOOTHING, 1 - 1 / (1 + len(values) / POINTS))
    average = MovingAverage(factor)
    return np.array([average.add(value) for value in values])


def plot_run(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Draws the loss, its parts, the learning rate and the metrics of a run.

    Losses, the validation's among them, are drawn as they are and smoothed.

    Args:
        run_dir: the run's folder.
        out: file to write; ``loss_curve.png`` in the folder by default.

    Returns:
        The file.

    Raises:
        UserError: the run has logged nothing.
    """
    run = read_metrics(run_dir)
    parts = [name for name in run.train if name.startswith("loss/")]
    panels = [("loss", ["loss"] if "loss" in run.train else [], run.train)]
    panels += [("parts of the loss", parts, run.train)] if parts else []
    scores: list[str] = [n for n in ("AP", "AP50", "AP75") if n in run.evaluation] or list(
        run.evaluation
    )[:4]
    panels += [("evaluation", scores, run.evaluation)] if scores else []
    panels += [("learning rate", ["lr"], run.train)] if "lr" in run.train else []
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        raise UserError(f"Cannot plot {run_dir}: {METRICS_FILE} holds no losses and no metrics.")
    figure, axes = _figure(len(panels))
    validation = run.evaluation.get("val_loss")
    for axis, (title, names, source) in zip(axes, panels):
        both = title == "loss" and validation is not None
        for name, colour in zip(names, COLOURS * (1 + len(names) // len(COLOURS))):
            steps, values = source[name]
            label = name if both or len(names) > 1 else None
            if source is run.train and name != "lr":
                _loss(axis, steps, values, colour, label)
            else:
                marker = "o" if source is run.evaluation else None
                axis.plot(steps, values, color=colour, marker=marker, markersize=4, label=label)
        if both and validation is not None:
            _loss(axis, *validation, COLOURS[1], "val_loss")
        finish(axis, title, legend=both or len(names) > 1, last=_last_step([run]))
    figure.suptitle(run.name, fontsize=13)
    folder = Path(run_dir) if Path(run_dir).is_dir() else Path(run_dir).parent
    return save_figure(figure, Path(out) if out is not None else folder / "loss_curve.png")


def plot_runs(
    run_dirs: Sequence[str | Path],
    metric: str | None = None,
    out: str | Path = "comparison.png",
) -> Path:
    """Draws several runs together: their losses, and one metric.

    Args:
        run_dirs: the runs' folders.
        metric: name of a metric of the evaluation; ``AP``, or else the first that all runs share,
            by default.
        out: file to write.

    Returns:
        The file.

    Raises:
        UserError: no runs, or no run has logged the metric.
    """
    if not run_dirs:
        raise UserError("Invalid value for `run_dirs`. Expected at least one run. Received none.")
    runs = [read_metrics(run) for run in run_dirs]
    names = distinct_names(run_dirs, runs)
    metric = _shared_metric(runs, metric)
    titles = ["loss"] if any("loss" in run.train for run in runs) else []
    titles += [metric] if metric else []
    if not titles:
        raise UserError("Cannot compare the runs: none has logged a loss or a metric.")
    figure, axes = _figure(len(titles))
    for axis, title in zip(axes, titles):
        for index, (run, name) in enumerate(zip(runs, names)):
            colour = COLOURS[index % len(COLOURS)]
            if title == "loss" and "loss" in run.train:
                _loss(axis, *run.train["loss"], colour, name)
            elif title != "loss" and title in run.evaluation:
                axis.plot(
                    *run.evaluation[title], color=colour, marker="o", markersize=4, label=name
                )
        if title != "loss":
            _widen(axis)
        finish(axis, title, legend=True, last=_last_step(runs))
    return save_figure(figure, Path(out))


def _widen(axis: Axes) -> None:
    """Lets runs that agree to a percent lie together, and not at both ends of the panel."""
    low, high = axis.get_ylim()
    least = 0.1 * max(abs(low), abs(high))
    if high - low < least:
        middle = (low + high) / 2
        axis.set_ylim(middle - least / 2, middle + least / 2)


def _shared_metric(runs: Sequence[RunMetrics], metric: str | None) -> str | None:
    known = list(dict.fromkeys(name for run in runs for name in run.evaluation))
    if metric is None:
        shared = [name for name in known if all(name in run.evaluation for run in runs)]
        return next(iter((["AP"] if "AP" in known else []) + shared + known), None)
    if metric not in known:
        raise UserError(
            f"Invalid value for `metric`. Expected one of {', '.join(known) or 'none logged'}. "
            f"Received {metric!r}.{suggestion(metric, known)}"
        )
    return metric


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    columns = 1 if panels == 1 else 2
    rows = math.ceil(panels / columns)
    figure = new_figure(6.4 * columns, 3.9 * rows + 0.4)
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(panels)]
    return figure, axes


def _loss(
    axis: Axes, steps: np.ndarray, values: np.ndarray, colour: str, label: str | None
) -> None:
    if len(values) > 1 and not values[0] <= FIRST_LOSS_LIMIT:
        steps, values = steps[1:], values[1:]
    finite = np.isfinite(values)
    drawn = np.where(finite, values, np.nan)
    axis.plot(steps, drawn, color=colour, alpha=0.28, linewidth=1.0)
    axis.plot(steps, moving_average(values), color=colour, linewidth=1.9, label=label)
    if not finite.all():
        axis.axvline(steps[~finite][0], color=colour, linestyle=":", linewidth=1.2)


def _last_step(runs: Sequence[RunMetrics]) -> float:
    series = [s for run in runs for part in (run.train, run.evaluation) for s in part.values()]
    return max(float(steps[-1]) for steps, _ in series)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that is drawn without a window; sizes in inches."""
    # Imported here: Matplotlib takes 0.4 s, which no other command needs.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(axis: Axes, title: str, *, legend: bool, last: float) -> None:
    """Title, grid and limits of a panel whose curves go over steps, up to ``last``."""
    axis.set_title(title, fontsize=11)
    # The same steps in every panel, so that an evaluation stands below the loss it belongs to.
    axis.set_xlim(0, 1.03 * max(last, 1.0))
    axis.set_xlabel("step")
    axis.grid(True, color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if title == "learning rate":
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    if legend and axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False)


def check_picture(out: str | Path) -> Path:
    """The path of a picture to draw, if it can be written.

    Raises:
        UserError: the suffix is unknown or the folder cannot be written.
    """
    known = new_figure(1, 1).canvas.get_supported_filetypes()
    suffix = Path(out).suffix.lower().removeprefix(".")
    if suffix not in known:
        raise UserError(
            f"Invalid name of a picture. Expected it to end in one of "
            f"{', '.join(f'.{name}' for name in known)}. Received {Path(out).name!r}."
        )
    check_output(out)
    return Path(out)


def save_figure(figure: Figure, out: Path) -> Path:
    """Writes a figure in the format of the file's suffix, whole or not at all; makes the folder.

    Raises:
        UserError: the suffix is unknown or the folder cannot be written.
        RunFailedError: the system refused the write, as on a full disk.
    """
    check_picture(out)
    data = io.BytesIO()
    figure.savefig(data, format=out.suffix.lower().removeprefix("."))
    write_bytes(make_parent(out), data.getvalue())
    return out
