"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unidet.data import DetectionDataset, Loader


def add_framework(parser: argparse.ArgumentParser) -> None:
    """Which framework computes, and where."""
    parser.add_argument(
        "--backend", choices=("torch", "jittor"), help="framework (default: the one installed)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)"
    )


def add_loading(parser: argparse.ArgumentParser) -> None:
    """How images come in."""
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images at a time (default: 1)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="threads that read images ahead (default: 0)",
    )
    parser.add_argument(
        "--on-bad",
        choices=("error", "skip"),
        default="error",
        help="what bad entries do, and images that are damaged or of another size than their "
        "annotation (default: error); skip leaves them out and says how many",
    )


def tell_left_out(dataset: DetectionDataset, loader: Loader) -> None:
    """A line on how many entries and images ``--on-bad skip`` left out, where there are any."""
    for count, what, first in (
        (len(dataset.skipped), "entries of the annotations", dataset.skipped[:1]),
        (len(loader.left_out), f"of {loader.num_images} images", loader.left_out[:1]),
    ):
        if count:
            print(f"warning: {count} {what} left out, the first: {first[0]}", file=sys.stderr)


def add_overrides(parser: argparse.ArgumentParser, what: str) -> None:
    """Changes to single keys.

    Args:
        parser: of the command.
        what: has the keys, in words.
    """
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"change one key of the {what}, repeatable; the value is YAML",
    )


def add_non_finite(parser: argparse.ArgumentParser) -> None:
    """The option for weights that hold NaN or infinity."""
    parser.add_argument(
        "--allow-non-finite",
        action="store_true",
        help="take weights that hold NaN or infinity, which are refused otherwise",
    )
