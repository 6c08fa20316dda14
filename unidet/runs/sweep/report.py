"""The tables of a sweep, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unidet.evaluation.coco import METRIC_NAMES
from unidet.evaluation.compare import short_titles
from unidet.evaluation.localisation import MEASURES, RULES
from unidet.runs.sweep.record import FAILED, FINISHED
from unidet.runs.sweep.results import RunResult, VersionResult
from unidet.runs.tables import aligned

_SHOWN = ("AP", "AP50")
#: Numbers of the localisation report that stand beside its measures.
_COUNTS = {"images_without_detections": "no detection", "missed": "missed"}


@dataclass(frozen=True)
class Table:
    """Rows of text below a head."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        """Aligned columns."""
        return f"{self.title}\n{aligned([self.head, *self.rows])}"

    def markdown(self) -> str:
        """As a section of a Markdown file."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        cells = ("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines)
        return f"## {self.title}\n\n" + "\n".join(cells) + "\n"


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation (of a sample) over runs; None where there are too few."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "values": list(values),
    }


def metric_names(results: Sequence[VersionResult]) -> list[str]:
    """Metrics that any run has, COCO's first."""
    found = {name for result in results for run in result.runs for name in run.metrics}
    known = [name for name in METRIC_NAMES if name in found]
    return known + sorted(found - set(known))


def to_json(results: Sequence[VersionResult]) -> str:
    """Everything, with the spread over the runs of each version."""
    versions = [
        {
            "version": result.version.name,
            "settings": result.version.settings,
            "best": spread([run.best for run in result.runs]),
            "metrics": {
                name: spread([run.metrics.get(name) for run in result.runs])
                for name in metric_names([result])
            },
            "runs": [run.to_dict() for run in result.runs],
        }
        for result in results
    ]
    return json.dumps({"versions": versions}, indent=2, allow_nan=False) + "\n"


def to_csv(results: Sequence[VersionResult]) -> str:
    """One row for each run."""
    metrics = metric_names(results)
    rows = []
    for result in results:
        for run in result.runs:
            row = {"run": run.name, **result.version.settings, "seed": run.seed}
            row |= {"status": run.status, "best metric": run.metric, "best": run.best}
            row |= {"best step": run.step, "best epoch": run.epoch, "last loss": run.last_loss}
            row |= {name: run.metrics.get(name) for name in metrics} | _flat(run)
            rows.append(row)
    text = io.StringIO()
    fields = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(run: RunResult) -> dict[str, Any]:
    if run.localisation is None:
        return {}
    found = {name: run.localisation[name] for name in _COUNTS}
    for rule in RULES:
        for measure in MEASURES:
            for what, value in run.localisation[rule][measure].items():
                found[f"{rule} {measure} {what}"] = value
    return found


def tables(results: Sequence[VersionResult]) -> list[Table]:
    """Versions, how well their boxes sit, and single runs; those that have something to tell."""
    found = [_versions(results)]
    if any(run.localisation for result in results for run in result.runs):
        found.append(_localisation(results))
    if any(len(result.runs) > 1 or run.reason for result in results for run in result.runs):
        found.append(_runs(results))
    return found


def _versions(results: Sequence[VersionResult]) -> Table:
    titles = short_titles(list(results[0].version.settings))
    names = {run.metric for result in results for run in result.runs}
    known = metric_names(results)
    metrics = [name for name in _SHOWN if name in known and name not in names]
    metrics += [name for name in known if name.startswith("val_loss") and name not in names]
    best = f"best {names.pop()}" if len(names) == 1 else "best"
    head = [*_titles(titles), "runs", best, "best step", *metrics, "last loss"]
    rows = []
    for result in results:
        runs = result.runs
        cells = [_spread([run.best for run in runs]), _steps(result)]
        cells += [_spread([run.metrics.get(name) for run in runs]) for name in metrics]
        cells.append(_spread([run.last_loss for run in runs]))
        rows.append([*_settings(result), _states(result.runs), *cells])
    return Table("versions (mean +- standard deviation over their runs)", head, rows)


def _localisation(results: Sequence[VersionResult]) -> Table:
    titles = short_titles(list(results[0].version.settings))
    measures = [f"{title}{what}" for title in MEASURES.values() for what in ("", ", std")]
    head = [*_titles(titles), "boxes", *measures, *_COUNTS.values()]
    rows = []
    for result in results:
        # A version without a report has no numbers, but a row.
        reports = [run.localisation for run in result.runs if run.localisation] or [{}]
        for rule in RULES:
            measured = [report.get(rule, {}) for report in reports]
            cells = [
                _spread([values.get(measure, {}).get(what) for values in measured])
                for measure in MEASURES
                for what in ("mean", "std")
            ]
            counts = [_spread([report.get(name) for report in reports]) for name in _COUNTS]
            rows.append([*_settings(result), rule, *cells, *counts])
    return Table(
        "localisation of the best evaluation (mean and standard deviation over images or objects)",
        head,
        rows,
    )


def _runs(results: Sequence[VersionResult]) -> Table:
    head = ["run", "status", "best", "best step", "best epoch", "last loss"]
    rows = [
        [
            run.name,
            f"{run.status or 'not begun'}{': ' * bool(run.reason)}{run.reason}",
            *map(_number, (run.best, run.step, run.epoch, run.last_loss)),
        ]
        for result in results
        for run in result.runs
    ]
    return Table("runs", head, rows)


def _titles(titles: dict[str, str]) -> list[str]:
    return list(titles.values()) or ["version"]


def _settings(result: VersionResult) -> list[str]:
    values = result.version.settings.values()
    return [_value(value) for value in values] or [result.version.name]


def _states(runs: Sequence[RunResult]) -> str:
    done = sum(run.status == FINISHED for run in runs)
    failed = sum(run.status == FAILED for run in runs)
    return f"{done}/{len(runs)}" + (f", {failed} failed" if failed else "")


def _steps(result: VersionResult) -> str:
    return ", ".join(_number(run.step) for run in result.runs)


def _spread(values: Sequence[float | None]) -> str:
    found = spread(values)
    mean = _number(found["mean"])
    return mean if found["std"] is None else f"{mean} +- {found['std']:.2g}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
