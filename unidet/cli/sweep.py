"""`unidet sweep`: trains many versions of one run and compares them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unidet.cli.train import QUICKSTART, add_config_arguments

if TYPE_CHECKING:
    from unidet.runs.sweep.record import SweepRecord

_EPILOG = """\
examples:
  unidet sweep --grid optimizer.lr=1e-4,1e-3 --set train.epochs=2 --backend torch
  unidet sweep retinanet_r18_bccd --grid box_loss=l1,giou,diou --repeat 3 --set data.root=BCCD
  unidet sweep my.yaml --grid optimizer.lr=1e-5,5e-5 --grid train.epochs=2,10 --work-dir runs/lr
  unidet sweep my.yaml --grid "schedule.milestones=[8,11],[16,22]" --dry-run
  unidet sweep --table runs/lr                   the tables and the picture again, no training

Keys: a word alone, such as box_loss, is an argument of the model; keys of the config are written
in full (unidet train --keys lists them). Values are YAML; several --grid multiply.

The work dir holds a run folder for each version and seed (box_loss=giou,seed=3407), and sweep.json,
sweep.md, sweep.csv and sweep.png, which are written again after each run. The same command goes on
where it was stopped or killed: finished runs are skipped, begun ones go on from their last saved
state (train.checkpoint_every), failed ones are tried again, and a larger --repeat adds seeds.
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "sweep",
        help="train versions of one config, with several seeds, and tabulate them",
        description="Trains every combination of the values of a grid, one after the other, each "
        "in a process and a run folder of its own, and compares them: best value of "
        "train.best_metric and its step, metrics, losses, and how well boxes sit. All versions "
        "are checked before the first one trains. A version that fails does not stop the others; "
        "the exit status is then 1.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=V1,V2,...",
        help="values of one key that the versions take, repeatable",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="seeds of each version: train.seed (or --seed), the next one, ... (default: 1)",
    )
    parser.add_argument(
        "--work-dir", metavar="D", help="folder of the sweep (default: runs/NAME-BACKEND-sweep)"
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        metavar="T",
        help="least score of a detection in the localisation report, 0 to 1 (default: 0.3)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say which runs would train, and leave"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="a line for each run in place of its progress"
    )
    parser.add_argument(
        "--table", metavar="D", help="write the tables of this sweep anew, without training"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.errors import UserError
    from unidet.evaluation.localisation import SCORE_THRESHOLD
    from unidet.runs.sweep.record import FAILED, read_record
    from unidet.runs.sweep.results import Reader
    from unidet.runs.sweep.run import run_sweep

    threshold = SCORE_THRESHOLD if args.score_threshold is None else args.score_threshold
    if not 0 <= threshold <= 1:
        raise UserError(
            f"Invalid value for `--score-threshold`. Expected a number in [0, 1]. "
            f"Received {threshold}."
        )
    if args.table:
        if args.config or args.grid:
            raise UserError("Invalid options. Expected --table D alone. Received a grid or CONFIG.")
        _print(Reader(read_record(Path(args.table)), threshold))
        return 0
    record = _record(args)
    if args.dry_run:
        _plan(record)
        return 0
    reader = Reader(record, threshold)
    try:
        run_sweep(
            record,
            device=args.device,
            quiet=args.quiet,
            say=_say,
            after=lambda: _tabulate(reader),
        )
    except KeyboardInterrupt:
        _print(reader)
        raise
    _print(reader)
    failed = [r.name for v in record.versions for r in v.runs if record.status(r.name) == FAILED]
    return 1 if failed else 0


def _record(args: argparse.Namespace) -> SweepRecord:
    import dataclasses

    from unidet.backends import resolve
    from unidet.config import from_mapping, load_config
    from unidet.config import resolve as resolve_config
    from unidet.errors import UserError
    from unidet.files.outputs import check_output
    from unidet.runs.sweep.grid import parse_grid
    from unidet.runs.sweep.record import open_record

    if args.repeat < 1:
        raise UserError(
            f"Invalid value for `--repeat`. Expected 1 or more. Received {args.repeat}."
        )
    if not args.grid and args.repeat == 1:
        raise UserError("Missing option --grid. Expected --grid KEY=V1,V2,... or --repeat N.")
    config = load_config(args.config or QUICKSTART, args.overrides)
    if args.seed is not None:
        config = dataclasses.replace(
            config, train=dataclasses.replace(config.train, seed=args.seed)
        )
        config = from_mapping(resolve_config(config))
    grid = parse_grid(args.grid, config)
    backend = resolve(args.backend)
    stem = Path(args.config).stem if args.config else QUICKSTART
    root = Path(args.work_dir or Path("runs") / f"{stem}-{backend}-sweep")
    check_output(root, folder=True)
    return open_record(root, config, grid, repeat=args.repeat, backend=backend)


def _plan(record: SweepRecord) -> None:
    runs = [run for version in record.versions for run in version.runs]
    for one in runs:
        print(f"{one.name}: {record.state(one) or 'finished'}")
    print(f"{len(record.versions)} versions, {len(runs)} runs in {record.root}")


def _tabulate(reader: Any) -> None:
    """The tables between two runs; what is wrong with them must not stop those to come."""
    from unidet.errors import UserError
    from unidet.runs.sweep.outputs import write_outputs

    try:
        write_outputs(reader)
    except UserError as error:
        _say(f"no tables yet: {error}")


def _say(text: str) -> None:
    # The runs write to the same place, from processes of their own.
    print(text, flush=True)


def _print(reader: Any) -> None:
    from unidet.runs.sweep.outputs import write_outputs

    for table in write_outputs(reader):
        print(f"\n{table.text()}")
    print(f"\nsaved in {reader.record.root}")
