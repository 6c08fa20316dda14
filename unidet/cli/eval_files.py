"""`unidet eval` of files: results that are checked, proposals whose recall is printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unidet.cli.localisation import localise

if TYPE_CHECKING:
    from unidet.evaluation import CocoScores


def check(args: argparse.Namespace) -> int:
    """What is wrong with a results file, and its scores."""
    from unidet.evaluation import (
        check_results,
        evaluate_coco,
        evaluate_lvis,
        read_results,
        read_truth,
        score_boxes,
    )
    from unidet.evaluation.proposals import limits_up_to
    from unidet.evaluation.run import default_limit

    truth = read_truth(args.data, annotated=False)
    results = read_results(args.check_results)
    limit = args.max_detections or default_limit(args.format, class_agnostic=args.class_agnostic)
    report = check_results(results, truth, max_per_image=limit)
    print(report.text())
    if report.ok and truth.get("annotations"):
        if args.class_agnostic:
            scores = score_boxes(truth, results, limits=limits_up_to(limit))
        elif args.format == "lvis":
            scores = evaluate_lvis(truth, results, max_detections=limit)
        else:
            scores = evaluate_coco(truth, results)
        _show(args, scores, {"per_class": scores.per_class}, truth, results)
    return 0 if report.ok else 1


def recall(args: argparse.Namespace) -> int:
    """The recall of a file of proposals."""
    from unidet.data.proposals import read_proposals
    from unidet.data.sources import load_dataset
    from unidet.errors import UserError, suggestion
    from unidet.evaluation import evaluate_proposals
    from unidet.evaluation.proposals import LIMITS, limits_up_to

    images = args.images or (None if args.format == "voc" else Path(args.data).parent)
    dataset = load_dataset({"format": args.format, "annotations": args.data, "images": images})
    chosen = None
    if args.only_classes:
        names = [name.strip() for name in args.only_classes.split(",") if name.strip()]
        known = [name.strip() for name in dataset.class_names]
        for name in names:
            if name not in known:
                raise UserError(
                    f"Invalid value for `--only-classes`. Expected classes of {dataset.name}. "
                    f"Received {name!r}.{suggestion(name, known)}"
                )
        chosen = [i for i, name in zip(dataset.category_ids, known) if name in names]
    rows = read_proposals(args.checkpoint, dataset)
    scores = evaluate_proposals(
        dataset.to_coco(),
        dict(zip((record.id for record in dataset.images), rows)),
        limits=limits_up_to(args.max_detections or LIMITS[-1]),
        category_ids=chosen,
    )
    _show(args, scores, {"proposals": str(args.checkpoint), "data": str(args.data)})
    return 0


def _show(
    args: argparse.Namespace,
    scores: CocoScores,
    more: dict[str, Any],
    truth: dict[str, Any] | None = None,
    results: Sequence[dict[str, Any]] = (),
) -> None:
    print(scores.table)
    if truth is not None:
        more = {**more, **localise(args, truth, results)}
    if args.json:
        write_json(args.json, {**more, "metrics": scores.metrics})


def write_json(path: str, content: dict[str, Any]) -> None:
    """Writes metrics."""
    from unidet.evaluation.results import write_text

    write_text(Path(path), json.dumps(content, indent=2) + "\n")
