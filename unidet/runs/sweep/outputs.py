"""The files of a sweep: `sweep.json`, `sweep.md`, `sweep.csv` and `sweep.png`."""

from __future__ import annotations

from unidet.engine.run_folder import write_text
from unidet.runs.sweep.report import Table, tables, to_csv, to_json
from unidet.runs.sweep.results import Reader, VersionResult


def write_outputs(reader: Reader) -> list[Table]:
    """Writes what is known so far into the folder of the sweep, and returns its tables.

    Raises:
        UserError: a run's files cannot be read.
        RunFailedError: the system refused a write.
    """
    root = reader.record.root
    results = reader.read()
    found = tables(results)
    write_text(root / "sweep.json", to_json(results))
    write_text(root / "sweep.csv", to_csv(results))
    write_text(root / "sweep.md", "\n".join(table.markdown() for table in found))
    _plot(reader, results)
    return found


def _plot(reader: Reader, results: list[VersionResult]) -> None:
    from unidet.visualization.sweep import plot_sweep

    metric = reader.record.config.train.best_metric
    curves = {
        result.version.name: [
            run.log.evaluation[metric]
            for run in result.runs
            if run.log is not None and metric in run.log.evaluation
        ]
        for result in results
    }
    reached = {
        result.version.name: [run.metrics[metric] for run in result.runs if metric in run.metrics]
        for result in results
    }
    if any(reached.values()):
        plot_sweep(curves, reached, metric, reader.record.root / "sweep.png")
