"""`unidet recipe`: a recipe of several runs as one command."""

from __future__ import annotations

import argparse
from typing import Any

from unidet.cli.options import add_framework, add_overrides

_EPILOG = """\
examples:
  unidet recipe unidetector recipe_unidetector_scenes --backend torch    minutes, no download
  unidet recipe unidetector mine.yaml --work-dir runs/mine               goes on where it stopped
  unidet recipe unidetector mine.yaml --work-dir runs/mine --dry-run     what would run, and why
  unidet recipe unidetector mine.yaml --work-dir runs/mine --only stage1
  unidet recipe unidetector mine.yaml --work-dir runs/mine --from raw --set scoring.gamma=0.3
  unidet recipe table runs/torch runs/jittor                             runs side by side

The work dir holds a run folder for each stage, proposals/, raw.json and calibrated.json with their
metrics, prior.json, report.txt, report.json and steps.json, the record of what is done.
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "recipe",
        help="run a recipe of several runs, such as UniDetector's",
        description="Runs what builds on one another as one command. A step is skipped when what "
        "it left is there and whole and nothing it depends on has changed; an interrupted training "
        "goes on from its last saved state.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="recipe_command", metavar="ACTION", required=True)
    _add_unidetector(actions)
    table = actions.add_parser(
        "table",
        help="print the tables of several work dirs as one",
        description="Prints recall and precision of several recipes, a row for each.",
    )
    table.add_argument("folders", nargs="+", metavar="D", help="work dir of a recipe")


def _add_unidetector(actions: Any) -> None:
    parser = actions.add_parser(
        "unidetector",
        help="first stage, proposals, second stage, raw and calibrated results",
        description="Trains the first stage, writes its boxes in every data set, trains the second "
        "stage on them and scores the test set, without and with calibration.",
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="YAML file, or name of a shipped recipe (recipe_*)"
    )
    parser.add_argument(
        "--work-dir", metavar="D", help="folder of the recipe (default: runs/NAME-BACKEND)"
    )
    add_framework(parser)
    add_overrides(parser, "recipe")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="STEP",
        help="run this step alone, repeatable: data, stage1, proposals, test_proposals, stage2, "
        "raw, calibrated, table",
    )
    parser.add_argument(
        "--from", dest="start", metavar="STEP", help="run this step and those that build on it"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="run the chosen steps even where they are done"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and leave")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.recipe_command == "table":
        from unidet.runs.recipe.report import read_report, report_tables

        print(report_tables([read_report(folder) for folder in args.folders]))
        return 0
    return _unidetector(args)


def _unidetector(args: argparse.Namespace) -> int:
    from pathlib import Path

    from unidet.backends import resolve
    from unidet.cli.bar import Progress
    from unidet.files.outputs import check_output
    from unidet.runs.recipe.config import load_recipe
    from unidet.runs.recipe.unidetector import unidetector_steps
    from unidet.runs.record import read_record
    from unidet.runs.steps import choose, plan, run_steps

    backend = resolve(args.backend)
    root = Path(args.work_dir or Path("runs") / f"{Path(args.config).stem}-{backend}")
    recipe = load_recipe(args.config, args.overrides)
    steps = unidetector_steps(recipe, root, backend=backend, device=args.device, progress=Progress)
    chosen = choose(steps, args.only, args.start)
    check_output(root, folder=True)
    record = read_record(root)
    if args.dry_run:
        for step, reason in plan(steps, chosen, record, overwrite=args.overwrite):
            print(f"{step.name:<15}" + (f"runs: {reason}" if reason else "done"))
        return 0
    run_steps(steps, chosen, record, overwrite=args.overwrite)
    report = root / "report.txt"
    if any(step.name == "table" for step in chosen) and report.is_file():
        print(f"\n{report.read_text(encoding='utf-8').rstrip()}")
    return 0
