"""`unidet demo`: the whole path on generated data, in minutes."""

from __future__ import annotations

import argparse
from typing import Any

_EPILOG = """\
examples:
  unidet demo
  unidet demo --out runs/short --set train.epochs=2
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "demo",
        help="train on Jittor, move to PyTorch, certify",
        description="Generates scenes, trains a small detector on Jittor, converts the weights to "
        "PyTorch, evaluates on both, writes the parity certificate and draws. Exit status 0 "
        "when every goal is reached.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", default="runs/demo", metavar="D", help="folder (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run there")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of the quickstart config, repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.runs.demo import run_demo

    result = run_demo(args.out, overrides=args.overrides, overwrite=args.overwrite)
    return 1 if result.failures() else 0
