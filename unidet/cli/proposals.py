"""`unidet proposals`: writes the proposals of a model to a file, for another model to classify."""

from __future__ import annotations

import argparse
from typing import Any

from unidet.cli.options import add_framework, add_loading, add_non_finite, tell_left_out
from unidet.config.formats import ANNOTATION_FORMATS


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "proposals",
        help="write the boxes of a model down, for another model to classify",
        description="Runs a model over all images of a data set and writes boxes with scores, by "
        "image id (.npz) or as the list of arrays that UniDetector's own tools read (.pkl). They "
        "are its detections if it has one class, else those of its region proposal network.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint of unidet")
    parser.add_argument(
        "--data",
        required=True,
        metavar="ANN",
        help="annotation file (JSON); for VOC the list ROOT/ImageSets/Main/SPLIT.txt",
    )
    parser.add_argument("--images", metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--format",
        choices=ANNOTATION_FORMATS,
        default="coco",
        help="form of the annotations (default: coco)",
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="file to write, .npz (by image id) or .pkl"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument(
        "--stage",
        choices=("detections", "rpn"),
        help="whose boxes (default: detections of a model of one class, rpn elsewhere)",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.0,
        metavar="T",
        help="least score of a box, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--statistics",
        choices=("imagenet", "clip"),
        help="normalise pixels by these in place of the checkpoint's own; UniDetector's config for "
        "LVIS uses clip, although its first stage learnt with imagenet",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the first N images, for a trial; .npz alone"
    )
    add_framework(parser)
    add_loading(parser)
    add_non_finite(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.cli.bar import Progress
    from unidet.data import Loader
    from unidet.data.preprocess import with_statistics
    from unidet.data.proposals import check_destination, write_proposals
    from unidet.data.sources import load_dataset
    from unidet.detector import Detector
    from unidet.evaluation.propose import choose_stage, propose

    _check_numbers(args)
    check_destination(args.out, overwrite=args.overwrite)
    spec = {"format": args.format, "annotations": args.data, "images": args.images}
    dataset = load_dataset({**spec, "on_bad": args.on_bad})
    if args.limit:
        dataset = dataset.select(range(min(args.limit, len(dataset))))
    if args.on_bad == "error":
        dataset.check_files()
    detector = Detector(
        args.checkpoint,
        backend=args.backend,
        device=args.device,
        allow_non_finite=args.allow_non_finite,
    )
    stage = choose_stage(detector.model, args.stage)
    preprocess = detector.preprocess
    if args.statistics:
        preprocess = with_statistics(preprocess, args.statistics)
    loader = Loader(
        dataset, preprocess, args.batch_size, num_workers=args.workers, on_bad=args.on_bad
    )
    with Progress(len(dataset)) as progress:
        found = propose(
            detector.model,
            loader,
            stage=stage,
            score_threshold=args.score_threshold,
            progress=progress,
        )
    tell_left_out(dataset, loader)
    path = write_proposals(args.out, found, overwrite=args.overwrite)
    count = sum(map(len, found.values()))
    print(f"Written: {path} ({len(found):,} images, {count:,} boxes, stage {stage})")
    return 0


def _check_numbers(args: argparse.Namespace) -> None:
    from pathlib import Path

    from unidet.errors import UserError

    for option, value, low in (
        ("--batch-size", args.batch_size, 1),
        ("--workers", args.workers, 0),
        ("--limit", args.limit, 1),
    ):
        if value is not None and value < low:
            raise UserError(
                f"Invalid value for `{option}`. Expected {low} or more. Received {value}."
            )
    if not 0 <= args.score_threshold <= 1:
        raise UserError(
            "Invalid value for `--score-threshold`. Expected a number in [0, 1]. "
            f"Received {args.score_threshold}."
        )
    if args.on_bad == "skip" and Path(args.out).suffix == ".pkl":
        raise UserError(
            "Invalid option --on-bad skip. Expected it with .npz, because a .pkl list has no ids "
            "and holds every image. Received it with .pkl."
        )
    if args.limit and Path(args.out).suffix == ".pkl":
        raise UserError(
            "Invalid option --limit. Expected it with .npz, because a .pkl list has no ids and "
            "holds every image. Received it with .pkl."
        )
