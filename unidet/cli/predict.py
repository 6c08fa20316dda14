"""`unidet predict`: detects objects in photos, draws them and writes them to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unidet.cli.options import add_framework, add_non_finite
from unidet.cli.vocabulary import add_scoring_options, add_vocabulary_options

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "predict",
        help="detect objects in photos, draw them, write COCO-form JSON",
        description="Draws the detections of each photo into the folder and writes all of them to "
        "predictions.json there: images, categories and annotations in COCO form, with scores.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint of unidet, or an .onnx file of unidet export, which needs no framework",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="photo, or folder of photos")
    parser.add_argument(
        "--out", default="predictions", metavar="DIR", help="folder to write (default: predictions)"
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.3,
        metavar="T",
        help="least score of a detection, 0 to 1 (default: 0.3)",
    )
    add_framework(parser)
    add_non_finite(parser)
    parser.add_argument("--no-pictures", action="store_true", help="write the JSON alone")
    add_vocabulary_options(parser)
    group = parser.add_argument_group("proposals, for detectors that classify given boxes")
    group.add_argument(
        "--proposals-from",
        metavar="CKPT",
        help="first-stage checkpoint that finds the boxes on the same photo, such as a CLN",
    )
    add_scoring_options(group)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import json

    from unidet.cli.vocabulary import check_scoring_numbers, check_vocabulary_options
    from unidet.data.images import read_image
    from unidet.errors import UserError
    from unidet.evaluation.results import write_text
    from unidet.files.outputs import check_output
    from unidet.visualization.draw import draw_detections, write_image

    paths = image_paths(args.images)
    out = Path(args.out)
    check_output(out, folder=True)
    if not 0 <= args.score_threshold <= 1:
        raise UserError(
            f"Invalid value for `--score-threshold`. Expected a number in [0, 1]. "
            f"Received {args.score_threshold}."
        )
    check_scoring_numbers(args)
    check_vocabulary_options(args)
    for path in paths:
        read_image(path)  # a damaged file is named before anything is written
    detector = _detector(args)
    names = _picture_names(paths)
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    for number, (path, name) in enumerate(zip(paths, names), start=1):
        pixels = read_image(path)
        found = detector(pixels, score_threshold=args.score_threshold)
        height, width = pixels.shape[:2]
        content["images"].append(
            {"id": number, "file_name": str(path), "width": width, "height": height}
        )
        for result in found.to_coco(number):
            identity = len(content["annotations"]) + 1
            area = result["bbox"][2] * result["bbox"][3]
            content["annotations"].append({"id": identity, **result, "area": area, "iscrowd": 0})
        if not args.no_pictures:
            write_image(out / name, draw_detections(pixels, found))
        print(f"{path}: {summary(found.names())}")
    content["categories"] = [
        {"id": label, "name": name} for label, name in enumerate(detector.class_names or ())
    ] or [{"id": i, "name": str(i)} for i in sorted(_used(content["annotations"]))]
    target = out / "predictions.json"
    write_text(target, json.dumps(content) + "\n")
    print(target)
    return 0


def _detector(args: argparse.Namespace) -> Any:
    from unidet.cli.vocabulary import read_scoring, set_classes
    from unidet.detector import Detector, check_vocabulary
    from unidet.errors import UserError

    if args.checkpoint.lower().endswith(".onnx"):
        return _exported(args)
    detector = Detector(
        args.checkpoint,
        backend=args.backend,
        device=args.device,
        allow_non_finite=args.allow_non_finite,
    )
    name = detector.model.config["name"]
    takes = detector.model.needs_proposals
    if takes and not args.proposals_from:
        raise UserError(
            "Missing option --proposals-from. Expected a checkpoint that finds boxes, because "
            f"{args.checkpoint}, a {name}, only classifies them."
        )
    if args.proposals_from and not takes:
        raise UserError(
            "Invalid option --proposals-from. Expected it with a detector that classifies given "
            f"boxes. Received {args.checkpoint}, a {name}, which finds its own."
        )
    scoring = read_scoring(args, detector)
    set_classes(args, detector)
    check_vocabulary(detector.model, f"of {args.checkpoint}")
    if scoring:
        detector.model.set_scoring(**scoring)
    if takes:
        detector.set_first_stage(args.proposals_from)
    return detector


def _exported(args: argparse.Namespace) -> Any:
    """A detector of an ONNX file, whose classes and scoring are what they were."""
    from unidet.detector import Detector
    from unidet.errors import UserError
    from unidet.export import OnnxDetector

    first = args.proposals_from
    framework = first is not None and not first.lower().endswith(".onnx")
    for option in ("classes", "max_proposals", "beta", *(() if framework else ("backend",))):
        if getattr(args, option) is not None:
            raise UserError(
                f"Invalid option --{option.replace('_', '-')}. Expected it with a checkpoint. "
                f"Received {args.checkpoint}, which is fixed and needs no framework."
            )
    if args.device != "cpu":
        raise UserError(
            "Invalid value for `--device`. Expected cpu with an ONNX file. Received "
            f"{args.device!r}."
        )
    detector = OnnxDetector(args.checkpoint)
    name = detector.config["name"]
    if detector.needs_proposals and not first:
        raise UserError(
            "Missing option --proposals-from. Expected a detector of one class, because "
            f"{args.checkpoint}, a {name}, only classifies the boxes that it finds."
        )
    if first and not detector.needs_proposals:
        raise UserError(
            "Invalid option --proposals-from. Expected it with a detector that classifies given "
            f"boxes. Received {args.checkpoint}, a {name}, which finds its own."
        )
    if first:
        detector.set_first_stage(
            Detector(first, backend=args.backend) if framework else OnnxDetector(first)
        )
    return detector


def image_paths(given: list[str]) -> list[Path]:
    """Files as given and the pictures of folders, in the order of their names.

    Raises:
        UserError: nothing there, or a folder without pictures.
    """
    from unidet.errors import UserError

    paths: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
            if not inside:
                raise UserError(f"Invalid folder {path}. Expected pictures in it. Found none.")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise UserError(f"Cannot read image {path}: no such file.")
    return paths


def summary(names: list[str]) -> str:
    """Counts of each class, such as "2 cat, 1 dog"."""
    if not names:
        return "nothing found"
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _picture_names(paths: list[Path]) -> list[str]:
    """Names of the drawn pictures; a number is added where two photos share one."""
    from unidet.data.file_names import output_names

    kept = (".jpg", ".jpeg", ".png")
    suffixes = [p.suffix.lower() if p.suffix.lower() in kept else ".png" for p in paths]
    return output_names((path.name for path in paths), suffixes)


def _used(annotations: list[dict[str, Any]]) -> set[int]:
    return {annotation["category_id"] for annotation in annotations}
