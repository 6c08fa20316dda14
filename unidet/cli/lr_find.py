"""`unidet lr-find`: the learning-rate range test."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_EPILOG = """\
examples:
  unidet lr-find --backend torch
  unidet lr-find retinanet_r18_bccd --set data.root=/data/bccd --steps 150 --out lr.png
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    from unidet.cli.train import add_config_arguments

    parser = subparsers.add_parser(
        "lr-find",
        help="find a learning rate: raise it until the loss breaks",
        description="Trains a fresh model for a few steps while the learning rate rises "
        "exponentially, prints the losses as a table, draws them, and names the rate at which the "
        "loss falls fastest. Nothing is kept but the picture.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--lowest", type=float, default=1e-7, metavar="LR", help="first rate (default: 1e-7)"
    )
    parser.add_argument(
        "--highest", type=float, default=1.0, metavar="LR", help="last rate (default: 1)"
    )
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps (default: 100)")
    parser.add_argument(
        "--out", default="lr_find.png", metavar="F", help="picture to write (default: lr_find.png)"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import dataclasses

    from unidet.cli.train import QUICKSTART
    from unidet.config import load_config
    from unidet.engine.lr_find import plot, range_test
    from unidet.visualization.curves import check_picture

    check_picture(args.out)
    config = load_config(args.config or QUICKSTART, args.overrides)
    if args.seed is not None:
        config = dataclasses.replace(
            config, train=dataclasses.replace(config.train, seed=args.seed)
        )
    result = range_test(
        config,
        backend=args.backend,
        device=args.device,
        work_dir=Path("runs") / "lr-find",
        lowest=args.lowest,
        highest=args.highest,
        steps=args.steps,
    )
    print(f"{'rate':>10}  {'loss':>10}  {'smoothed':>10}")
    every = max(len(result.rates) // 25, 1)
    for index in range(0, len(result.rates), every):
        row = (result.rates[index], result.losses[index], result.smooth[index])
        print("  ".join(f"{value:>10.4g}" for value in row))
    if result.broke_at is not None:
        print(f"the loss broke at {result.broke_at:.3g}")
    if result.suggestion is None:
        print("the loss never fell: no suggestion")
    else:
        print(f"suggested optimizer.lr: {result.suggestion:.2g}")
    print(f"picture: {plot(result, args.out)}")
    return 0
