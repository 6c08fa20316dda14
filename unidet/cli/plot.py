"""`unidet plot`: curves of one run or of several."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "plot",
        help="draw loss and metric curves of runs",
        description="Draws the curves of a run, or of several runs on top of each other. The raw "
        "loss is light, its moving average (factor 0.9) dark; a first loss above 100 is left out.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--out",
        metavar="F",
        help="file to write; loss_curve.png in the run's folder, or comparison.png, by default",
    )
    parser.add_argument("--metric", metavar="NAME", help="metric to compare (several runs)")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.errors import UserError
    from unidet.visualization import plot_run, plot_runs
    from unidet.visualization.curves import check_picture

    if args.out:
        check_picture(args.out)

    if len(args.runs) == 1:
        if args.metric:
            raise UserError("Invalid option --metric. Expected several runs. Received one.")
        path = plot_run(args.runs[0], args.out)
    else:
        path = plot_runs(args.runs, args.metric, args.out or "comparison.png")
    print(path)
    return 0
