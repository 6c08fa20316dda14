"""Comparison of runs: the options in which they differ, and the best result of each."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.config.measured import is_measured, smaller_is_better
from unidet.config.yaml_io import parse
from unidet.errors import UserError, suggestion
from unidet.evaluation.coco import METRIC_NAMES
from unidet.evaluation.run_log import RunMetrics, read_metrics
from unidet.files.reading import read_text

CONFIG_FILE = "config.yaml"
_ABSENT = ""


@dataclass
class RunRow:
    """One run of a comparison.

    Attributes:
        name: name of the run's folder, or its path where names repeat.
        options: dotted config key to value, for the keys in which the runs differ.
        best_step: step of the best evaluation by the chosen metric.
        best_epoch: its epoch.
        metrics: all metrics of that evaluation.
        last_loss: mean of the last tenth of the logged losses.
    """

    name: str
    options: dict[str, Any]
    best_step: int | None = None
    best_epoch: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    last_loss: float | None = None


@dataclass
class Comparison:
    """Rows of runs with the same columns.

    Attributes:
        rows: one for each run, in the order given.
        options: config keys in which the runs differ.
        metrics: metrics that any run has logged.
        metric: the one that chose the best evaluation.
        maximise: whether more of it is better.
    """

    rows: list[RunRow]
    options: list[str]
    metrics: list[str]
    metric: str
    maximise: bool

    def columns(self) -> list[str]:
        """Titles of the table."""
        return ["run", *self.options, "best epoch", "best step", *self.metrics, "last loss"]

    def records(self) -> list[dict[str, Any]]:
        """One dict for each run with the keys of :meth:`columns`; None where nothing is known."""
        return [
            {
                "run": row.name,
                **{key: row.options.get(key, _ABSENT) for key in self.options},
                "best epoch": row.best_epoch,
                "best step": row.best_step,
                **{name: row.metrics.get(name) for name in self.metrics},
                "last loss": row.last_loss,
            }
            for row in self.rows
        ]

    def to_csv(self) -> str:
        """The table as CSV with a header line."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records())
        return text.getvalue()

    def to_json(self) -> str:
        """The table and its spread as JSON."""
        content = {
            "metric": self.metric,
            "maximise": self.maximise,
            "runs": self.records(),
            "spread": self.spread(),
        }
        return json.dumps(content, indent=2, default=str) + "\n"

    def spread(self) -> list[dict[str, Any]]:
        """Mean and standard deviation over the runs of one setting, which differ in seed alone.

        Returns:
            ``runs`` (names), ``options``, ``mean``, ``std`` (of a sample) of the chosen metric,
            for each setting with at least two runs that reached it.
        """
        groups: dict[str, list[RunRow]] = {}
        for row in self.rows:
            setting = {k: v for k, v in row.options.items() if k.split(".")[-1] != "seed"}
            groups.setdefault(json.dumps(setting, sort_keys=True, default=str), []).append(row)
        found = []
        for text, rows in groups.items():
            values = [r.metrics[self.metric] for r in rows if self.metric in r.metrics]
            if len(values) > 1:
                found.append(
                    {
                        "runs": [row.name for row in rows],
                        "options": json.loads(text),
                        "mean": statistics.fmean(values),
                        "std": statistics.stdev(values),
                    }
                )
        return found


def compare_runs(run_dirs: Sequence[str | Path], metric: str | None = None) -> Comparison:
    """Compares runs by their configs and logs.

    Args:
        run_dirs: the runs' folders, with ``config.yaml`` (optional) and ``metrics.jsonl``.
        metric: chooses each run's best evaluation; ``AP`` where logged, by default. Losses and
            errors are better when smaller.

    Raises:
        UserError: no run, a missing log, or a metric that no run has logged.
    """
    if not run_dirs:
        raise UserError("Invalid value for `run_dirs`. Expected at least one run. Received none.")
    runs = [read_metrics(run) for run in run_dirs]
    logged = {name for run in runs for name in run.evaluation}
    chosen = _choose(metric, logged)
    maximise = not smaller_is_better(chosen)
    configs = [_flat_config(Path(run)) for run in run_dirs]
    options = _differing(configs)
    names = distinct_names(run_dirs, runs)
    rows = [
        best_row(run, name, {k: config[k] for k in options if k in config}, chosen, maximise)
        for run, name, config in zip(runs, names, configs)
    ]
    known = [name for name in METRIC_NAMES if name in logged]
    metrics = known + sorted(logged - set(known))
    return Comparison(rows, options, metrics, chosen, maximise)


def short_titles(options: Sequence[str]) -> dict[str, str]:
    """The last word of each dotted key, or the whole key where two end alike."""
    last = [option.split(".")[-1] for option in options]
    return {o: name if last.count(name) == 1 else o for o, name in zip(options, last)}


def distinct_names(paths: Sequence[str | Path], runs: Sequence[RunMetrics]) -> list[str]:
    """Names of the runs, or their paths where two have the same name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _choose(metric: str | None, logged: set[str]) -> str:
    if metric is None:
        return "AP" if "AP" in logged or not logged else min(logged)
    if metric not in logged:
        raise UserError(
            "Invalid value for `metric`. Expected one of "
            f"{', '.join(sorted(logged)) or '(no run has an evaluation)'}. "
            f"Received {metric!r}.{suggestion(metric, logged)}"
        )
    return metric


def best_row(
    run: RunMetrics, name: str, options: dict[str, Any], metric: str, maximise: bool
) -> RunRow:
    """What a run has reached at its best evaluation.

    Args:
        run: what it has logged.
        name: of the row.
        options: of the row.
        metric: chooses the best evaluation; the first of equal ones counts. A precision of -1,
            which says that there was nothing to find, is never better than another value.
        maximise: whether more of it is better.
    """
    row = RunRow(name, options)
    if "loss" in run.train:
        tail = run.train["loss"][1]
        row.last_loss = float(tail[-max(1, len(tail) // 10) :].mean())
    if metric in run.evaluation:
        steps, values = run.evaluation[metric]
        known = np.array([is_measured(value, maximise=maximise) for value in values], bool)
        signed = np.where(known, values if maximise else -values, -np.inf)
        best = int(np.argmax(signed))
        row.best_step = int(steps[best])
        row.best_epoch = run.epochs[row.best_step]
        for other, (its_steps, its_values) in run.evaluation.items():
            at = its_values[its_steps == row.best_step]
            if len(at):
                row.metrics[other] = float(at[0])
    return row


def _flat_config(run: Path) -> dict[str, Any]:
    path = (run if run.is_dir() else run.parent) / CONFIG_FILE
    if not path.is_file():
        return {}
    try:
        content = parse(read_text(path, "Config"), str(path))
    except UserError as error:
        raise UserError(f"Cannot read {path}: {error}") from None
    flat: dict[str, Any] = {}
    _flatten(content, "", flat)
    return flat


def _flatten(node: Any, prefix: str, into: dict[str, Any]) -> None:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            _flatten(value, f"{prefix}.{key}" if prefix else str(key), into)
    else:
        into[prefix] = node


def _differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys(key for config in configs if config for key in config))
    filled = [config for config in configs if config]
    return [
        key
        for key in keys
        if any(config.get(key, _ABSENT) != filled[0].get(key, _ABSENT) for config in filled)
    ]
