"""`unidet compare`: a table of runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unidet.config.measured import is_measured

if TYPE_CHECKING:
    from unidet.evaluation.compare import Comparison


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "compare",
        help="tabulate runs: options that differ, best metrics",
        description="Prints one row for each run: the options in which the runs differ and the "
        "metrics of its best evaluation. Runs that differ in the seed alone are summed up with "
        "mean and standard deviation.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--metric", metavar="NAME", help="chooses the best evaluation (default: AP)"
    )
    parser.add_argument("--csv", metavar="F", help="write the table as CSV")
    parser.add_argument("--json", metavar="F", help="write the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.evaluation.compare import compare_runs
    from unidet.evaluation.results import write_text
    from unidet.files.outputs import check_output

    check_output(args.csv)
    check_output(args.json)
    comparison = compare_runs(args.runs, args.metric)
    _print(comparison)
    if args.csv:
        write_text(Path(args.csv), comparison.to_csv())
    if args.json:
        write_text(Path(args.json), comparison.to_json())
    return 0


def _print(comparison: Comparison) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from unidet.evaluation.compare import short_titles

    records = comparison.records()
    # Columns that say nothing of any run only make the table wider.
    columns = [c for c in comparison.columns() if any(r[c] not in (None, -1) for r in records)]
    best = _best(comparison)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = short_titles(comparison.options)
    for column in columns:
        numeric = column not in ("run", *comparison.options)
        title = titles.get(column, column)
        table.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for index, record in enumerate(records):
        table.add_row(
            *(_cell(record[column]) for column in columns), style="bold" if index == best else None
        )
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width: rows must not be broken.
        console = Console(width=10_000)
    console.print(table)
    for group in comparison.spread():
        print(
            f"{comparison.metric} over {len(group['runs'])} runs "
            f"({', '.join(group['runs'])}): {group['mean']:.4f} +- {group['std']:.4f}"
        )


def _best(comparison: Comparison) -> int | None:
    values = [row.metrics.get(comparison.metric) for row in comparison.rows]
    known = [
        index
        for index, value in enumerate(values)
        if value is not None and is_measured(value, maximise=comparison.maximise)
    ]
    if len(values) < 2 or not known:
        return None
    sign = 1 if comparison.maximise else -1
    return max(known, key=lambda index: sign * (values[index] or 0.0))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
