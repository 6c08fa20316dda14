"""`unidet eval`: the table of a checkpoint or of proposals, or the check of a results file."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unidet.cli.bar import Progress
from unidet.cli.localisation import add_localisation, localise
from unidet.cli.options import add_framework, add_loading, add_non_finite, tell_left_out
from unidet.cli.vocabulary import add_scoring_options
from unidet.config.formats import ANNOTATION_FORMATS

if TYPE_CHECKING:
    from unidet.data import DetectionDataset
    from unidet.detector import Detector
    from unidet.evaluation import EvaluationResult


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "eval",
        help="print the COCO or LVIS table of a checkpoint; check a results file",
        description="Runs a checkpoint over annotated images and prints COCO's twelve lines, or "
        "those of LVIS, and the AP of each class. Of a file of proposals it prints the recall. "
        "With --check-results, looks for everything in a results file that an evaluation server "
        "would refuse, and scores it where the annotations hold boxes.",
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="checkpoint of unidet, or a file of proposals (.npz, .pkl, .json)",
    )
    parser.add_argument(
        "--data",
        metavar="ANN",
        help="annotation file (JSON); for VOC the list ROOT/ImageSets/Main/SPLIT.txt",
    )
    parser.add_argument("--images", metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--format",
        choices=ANNOTATION_FORMATS,
        default="coco",
        help="form of the annotations, which decides about the metrics (default: coco)",
    )
    parser.add_argument(
        "--class-agnostic",
        action="store_true",
        help="score boxes alone, whatever their class: AP, and AR at 100, 300 and 1000",
    )
    parser.add_argument(
        "--only-classes",
        metavar="A,B",
        help="of proposals: count the objects of these classes alone, such as unseen ones",
    )
    add_framework(parser)
    add_non_finite(parser)
    add_loading(parser)
    parser.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="most detections kept for each image (default: 100; lvis: 300; boxes alone: 1000)",
    )
    parser.add_argument(
        "--json", metavar="OUT", help="write the metrics, overall and of each class"
    )
    parser.add_argument("--results", metavar="OUT", help="write the detections in COCO result form")
    parser.add_argument(
        "--pictures", metavar="DIR", help="draw ground truth and predictions side by side"
    )
    parser.add_argument(
        "--max-pictures",
        type=int,
        default=50,
        metavar="N",
        help="most pictures drawn; 0: all (default: 50)",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.3,
        metavar="T",
        help="least score of a drawn detection and of one that --localisation looks at, 0 to 1; "
        "the metrics use all (default: 0.3)",
    )
    add_localisation(parser)
    parser.add_argument(
        "--proposals",
        metavar="F",
        help="given boxes (.json, .npz, .pkl), for models that classify them",
    )
    parser.add_argument("--check-results", metavar="F", help="check this file in place of a model")
    _add_vocabulary(parser)


def _add_vocabulary(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("open vocabulary, for detectors that classify by text")
    group.add_argument(
        "--embeddings",
        metavar="F.npy",
        help="text vectors of the classes of the data, in the order of their ids, of unidet embed; "
        "the detector then finds these classes",
    )
    add_scoring_options(group)
    group.add_argument(
        "--gamma",
        type=float,
        metavar="G",
        help="calibration: probability * N ** -G over the mean of that for all classes, with N of "
        "--class-prior (published: 0.6)",
    )
    group.add_argument(
        "--class-prior",
        metavar="F",
        help="detections of each class in a first pass: its --results, a JSON list of counts, or "
        "raw results of UniDetector's own tools (.pkl)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.cli.eval_files import check, recall
    from unidet.errors import UserError
    from unidet.files.outputs import check_output

    _check_numbers(args)
    for path in (args.json, args.results):
        check_output(path)
    check_output(args.pictures, folder=True)
    if not args.data:
        raise UserError("Missing option --data. Expected the annotation file.")
    if not args.check_results and not args.checkpoint:
        raise UserError("Missing argument CHECKPOINT. Expected a checkpoint of unidet.")
    if args.check_results or Path(args.checkpoint).suffix in (".npz", ".pkl", ".json"):
        for option in ("embeddings", "max_proposals", "beta", "class_prior"):
            if getattr(args, option) is not None:
                raise UserError(
                    f"Invalid option --{option.replace('_', '-')}. Expected it with a checkpoint. "
                    f"Received the file {args.check_results or args.checkpoint}."
                )
        if args.localisation and not args.check_results:
            raise UserError("Invalid option --localisation. Expected it with detections.")
        return check(args) if args.check_results else recall(args)
    if args.only_classes:
        raise UserError("Invalid option --only-classes. Expected it with a file of proposals.")
    if not args.images and args.format != "voc":
        raise UserError("Missing option --images. Expected the folder of the images.")
    from unidet.backends.parallel.ranks import RanksLostError
    from unidet.errors import RunFailedError

    try:
        return _evaluate(args)
    except RanksLostError as error:
        raise RunFailedError(
            "Another rank failed or was killed, or the job was stopped. Nothing was written."
        ) from error


def _check_numbers(args: argparse.Namespace) -> None:
    from unidet.cli.vocabulary import check_scoring_numbers
    from unidet.errors import UserError

    for option, value, low in (
        ("--batch-size", args.batch_size, 1),
        ("--workers", args.workers, 0),
        ("--max-detections", args.max_detections, 1),
        ("--max-pictures", args.max_pictures, 0),
    ):
        if value is not None and value < low:
            raise UserError(
                f"Invalid value for `{option}`. Expected {low} or more. Received {value}."
            )
    if not 0 <= args.score_threshold <= 1:
        raise UserError(
            f"Invalid value for `--score-threshold`. Expected a number in [0, 1]. "
            f"Received {args.score_threshold}."
        )
    check_scoring_numbers(args)
    if args.gamma is not None and not 0 <= args.gamma < math.inf:
        raise UserError(
            f"Invalid value for `--gamma`. Expected a number of 0 or more. Received {args.gamma}."
        )
    if (args.gamma is None) != (args.class_prior is None):
        given, missing = "--gamma", "--class-prior"
        if args.gamma is None:
            given, missing = missing, given
        raise UserError(f"Missing option {missing}. Expected it with {given}.")


def _evaluate(args: argparse.Namespace) -> int:
    from unidet.backends import resolve
    from unidet.backends.parallel import ranks
    from unidet.cli.eval_files import write_json
    from unidet.cli.eval_pictures import write_pictures
    from unidet.data import Loader
    from unidet.data.sources import load_dataset
    from unidet.detector import Detector, check_vocabulary
    from unidet.evaluation import CocoScores, evaluate_model, write_results
    from unidet.evaluation.class_prior import read_class_prior

    spec = {"format": args.format, "annotations": args.data, "images": args.images}
    spec.update(proposals=args.proposals, embeddings=args.embeddings, on_bad=args.on_bad)
    dataset = load_dataset(spec)
    prior = read_class_prior(args.class_prior, dataset) if args.class_prior else None
    if args.on_bad == "error":
        dataset.check_files()
    world = ranks.join(resolve(args.backend), args.device)
    detector = Detector(
        args.checkpoint,
        backend=args.backend,
        device=args.device,
        allow_non_finite=args.allow_non_finite,
    )
    _check_proposals(args, detector, dataset)
    scoring = _scoring(args, detector, dataset, prior)
    if args.embeddings:
        _warn_of_no_boxes(dataset)
    else:
        check_vocabulary(detector.model, f"of {args.checkpoint}")
        if not args.class_agnostic:
            _check_classes(detector, dataset)
    loader = Loader(
        dataset,
        detector.preprocess,
        args.batch_size,
        num_workers=args.workers,
        on_bad=args.on_bad,
        shard=(world.rank, world.size),
    )
    with Progress(len(dataset), shown=world.size == 1) as progress:
        result = evaluate_model(
            detector.model,
            loader,
            dataset,
            max_detections=args.max_detections,
            class_names=None if args.embeddings else detector.class_names,
            scoring=scoring,
            class_agnostic=args.class_agnostic,
            progress=progress,
        )
    ranks.leave()
    tell_left_out(dataset, loader)
    if not world.is_main:
        return 0
    print(result.table)
    if result.per_class:
        print()
        print(CocoScores(result.metrics, result.per_class, result.table).class_table())
    more = localise(args, dataset.to_coco(), result.results)
    print(f"\n{result.images_per_second:.2f} images a second on {detector.backend}")
    if args.results:
        write_results(args.results, result.results)
    if args.json:
        write_json(args.json, {**_summary(args, detector, result), **more})
    if args.pictures:
        write_pictures(args, dataset, result)
    return 0


def _tell(text: str) -> None:
    """A line beside the results, of one rank."""
    from unidet.backends.parallel import ranks

    if ranks.world().is_main:
        print(text, file=sys.stderr)


def _check_classes(detector: Detector, dataset: DetectionDataset) -> None:
    """Stops where classes cannot be told apart, warns where names differ and order decides."""
    from unidet.errors import UserError
    from unidet.evaluation.run import finds_objects, label_categories
    from unidet.models import ReadsText

    names = detector.class_names
    if finds_objects(names, dataset):
        _tell("the checkpoint tells no classes apart: boxes alone are scored")
        return
    try:
        label_categories(names, dataset)
    except UserError as error:
        if not isinstance(detector.model, ReadsText):
            raise
        raise UserError(f"{error} --embeddings makes it find the classes of the data.") from None
    _warn_of_no_boxes(dataset)
    missing = [name for name in dataset.class_names if names and name not in names]
    if missing:
        _tell(
            f"warning: the checkpoint does not know the name {missing[0]!r}; classes are taken "
            "in their order"
        )


def _warn_of_no_boxes(dataset: DetectionDataset) -> None:
    if not dataset.num_boxes:
        _tell(f"warning: {dataset.name} holds no boxes, so every metric will be -1")


def _check_proposals(
    args: argparse.Namespace, detector: Detector, dataset: DetectionDataset
) -> None:
    from unidet.errors import UserError

    name = detector.model.config["name"]
    if detector.model.needs_proposals and not dataset.proposals:
        raise UserError(
            f"Missing option --proposals. Expected a file of given boxes, which {args.checkpoint} "
            "does not make itself."
        )
    if args.proposals and not detector.model.takes_proposals:
        raise UserError(
            "Invalid option --proposals. Expected it with a detector of two stages. Received "
            f"{args.checkpoint}, a {name}."
        )


def _scoring(
    args: argparse.Namespace,
    detector: Detector,
    dataset: DetectionDataset,
    prior: tuple[int, ...] | None,
) -> dict[str, Any]:
    """What the options change in the model; nothing for one that does not classify by text.

    Such a model keeps as many detections as the metrics count.

    Raises:
        UserError: an option that the model does not take, or embeddings or proposals that do not
            fit it.
    """
    from unidet.cli.vocabulary import check_taken, read_scoring
    from unidet.errors import UserError
    from unidet.evaluation.run import default_limit
    from unidet.models import ReadsText
    from unidet.text.lookup import check_length

    found = read_scoring(args, detector)
    for option, value in (("embeddings", args.embeddings), ("gamma", args.gamma)):
        if value is not None:
            check_taken(option, "gamma", args.checkpoint, detector)
    model: Any = detector.model
    if not isinstance(model, ReadsText):
        return found
    if dataset.embeddings is not None:
        check_length(args.embeddings, dataset.embeddings, model.settings.embedding_dim)
    if prior is not None:
        found.update(gamma=args.gamma, class_prior=prior)
    beta = found.get("beta", model.settings.beta)
    if beta is not None and any(rows.shape[1] == 4 for rows in dataset.proposals):
        raise UserError(
            f"Invalid proposals {args.proposals}. Expected boxes with scores, because beta is "
            f"{beta}. Received boxes alone."
        )
    limit = args.max_detections or default_limit(dataset.metric, class_agnostic=args.class_agnostic)
    if model.settings.max_detections is not None and limit > model.settings.max_detections:
        found["max_detections"] = limit
    return found


def _summary(
    args: argparse.Namespace, detector: Detector, result: EvaluationResult
) -> dict[str, Any]:
    return {
        "checkpoint": str(args.checkpoint),
        "data": str(args.data),
        "backend": detector.backend,
        "metrics": result.metrics,
        "per_class": result.per_class,
        "images_per_second": result.images_per_second,
    }
