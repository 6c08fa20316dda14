"""The report of `unidet eval --localisation`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any


def add_localisation(parser: argparse.ArgumentParser) -> None:
    """The option that asks for it."""
    parser.add_argument(
        "--localisation",
        action="store_true",
        help="also tell how well boxes sit: distance of centres and corners in pixels and IoU, of "
        "the best-scoring box of each image and of each object with its detection; "
        "--score-threshold says which detections take part",
    )


def localise(
    args: argparse.Namespace, truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Prints the report where it is asked for.

    Args:
        args: of the command.
        truth: annotations in COCO form.
        results: detections in COCO result form.

    Returns:
        What it adds to the JSON file.
    """
    if not args.localisation:
        return {}
    from unidet.evaluation.localisation import localisation

    report = localisation(truth, results, score_threshold=args.score_threshold)
    print(f"\n{report.table()}")
    return {"localisation": report.to_dict()}
