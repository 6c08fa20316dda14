"""``unidet data``: checks, subsets, frequencies, conversion, generated scenes and vectors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unidet.errors import UserError

if TYPE_CHECKING:
    from unidet.data.dataset import DetectionDataset

_DESCRIPTION = (
    "Check annotation files, draw subsets, count categories, convert VOC to COCO form, generate "
    "scenes and text-like vectors of their classes."
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``data`` and its sub-commands."""
    parser = subparsers.add_parser(
        "data", help="check, sample, convert or generate data", description=_DESCRIPTION
    )
    actions = parser.add_subparsers(dest="data_command", metavar="ACTION", required=True)
    _add_check(actions)
    _add_subset(actions)
    _add_frequencies(actions)
    _add_convert(actions)
    _add_scenes(actions)
    _add_vectors(actions)


def run(args: argparse.Namespace) -> int:
    """Runs one sub-command; returns 0, or 1 where ``check`` found defects."""
    actions = {
        "check": _check,
        "subset": _subset,
        "frequencies": _frequencies,
        "convert": _convert,
        "scenes": _scenes,
        "vectors": _vectors,
    }
    status: int = actions[args.data_command](args)
    return status


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="COCO-form JSON file, or the folder of a VOC data set")
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the images (default: beside the annotations)"
    )
    parser.add_argument(
        "--split", metavar="NAME", help="VOC only: name of a list in ImageSets/Main, such as train"
    )
    parser.add_argument(
        "--classes", metavar="A,B", help="keep only these classes, in this order (default: all)"
    )


def _add_check(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "check",
        help="find defects of annotation and image files",
        description="Lists all defects. Exit status 1 where there are any; notes do not count.",
    )
    parser.add_argument("annotations", nargs="+", help="COCO-form JSON files, or VOC folders")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="folder of the images; without it those of JSON files are not looked at",
    )
    parser.add_argument(
        "--split", metavar="NAME", help="VOC only: name of a list in ImageSets/Main, such as train"
    )
    parser.add_argument("--no-decode", action="store_true", help="only look whether images exist")
    parser.add_argument(
        "--all", action="store_true", help="print every finding, not five of a kind"
    )
    parser.add_argument("--json", metavar="FILE", help="also write all findings here")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def _add_subset(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "subset",
        help="draw a seeded random part of a data set",
        description="Writes a COCO-form file with some of the images and all of the categories.",
    )
    _add_source(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="COCO-form JSON to write (default with --rule unidetector: NAME.SEED@PERCENT.json)",
    )
    parser.add_argument(
        "--rule",
        choices=("unidet", "unidetector"),
        default="unidet",
        help="how images are drawn; unidetector: the images of its published parts "
        "(default: unidet)",
    )
    share = parser.add_mutually_exclusive_group(required=True)
    share.add_argument(
        "--percent", type=float, metavar="P", help="percent of the images, above 0, at most 100"
    )
    share.add_argument("--count", type=int, metavar="N", help="number of images")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draw (default 0)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def _add_frequencies(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "frequencies",
        help="count images and boxes of each category",
        description="Writes the list of categories by id, each with image_count and "
        "instance_count, as UniDetector's _cat_info.json.",
    )
    _add_source(parser)
    parser.add_argument(
        "--out", metavar="FILE", help="JSON to write (default: SOURCE_cat_info.json beside it)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def _add_convert(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "convert",
        help="write a VOC folder as a COCO-form file",
        description="Boxes are converted from VOC's 1-based corners; difficult objects are "
        "marked with ignore.",
    )
    _add_source(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="COCO-form JSON to write")
    parser.add_argument(
        "--on-bad",
        choices=("error", "skip"),
        default="error",
        help="stop at a bad entry, or leave it out and list it (default: error)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def _add_scenes(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "scenes",
        help="generate pictures of shapes with annotations",
        description="Writes OUT/images and OUT/annotations.json.",
    )
    parser.add_argument("out", help="folder to make")
    parser.add_argument(
        "--count", type=int, default=64, metavar="N", help="number of pictures (default 64)"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(240, 320),
        metavar=("H", "W"),
        help="height and width in pixels, 64 or more (default 240 320)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the series: the same one draws the same pictures (default 0)",
    )
    parser.add_argument(
        "--start",
        type=int,
        default=0,
        metavar="N",
        help="number of the first picture of the series; other numbers, other pictures (default 0)",
    )
    parser.add_argument(
        "--classes",
        metavar="A,B",
        help="shapes to draw, among disc, ring, square, triangle, star, cross (default: all)",
    )
    parser.add_argument(
        "--max-objects",
        type=int,
        default=6,
        metavar="N",
        help="most objects in a picture (default 6)",
    )
    parser.add_argument(
        "--colours",
        metavar="A,B",
        help="make a class of each of these colours with each shape, among red, orange, yellow, "
        "green, cyan, blue, purple, pink (default: shapes of any colour)",
    )
    parser.add_argument(
        "--without",
        metavar="A,B",
        help='classes that never occur in pictures, such as "red disc"; the categories list them',
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier scenes in OUT")


def _add_vectors(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "vectors",
        help="make text-like vectors of class names",
        description="Writes one vector for each category, the sum of random directions of its "
        "words: a stand-in for text embeddings on generated scenes. Those of real names: unidet "
        "embed.",
    )
    parser.add_argument("--data", required=True, metavar="ANN", help="COCO-form JSON file")
    parser.add_argument("--dim", type=int, required=True, metavar="D", help="length of a vector")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the directions (default 0)"
    )
    parser.add_argument(
        "--out", required=True, metavar="F.npy", help="array to write; F.json names its rows"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [n.strip() for n in text.split(",") if n.strip()]


def _check(args: argparse.Namespace) -> int:
    from unidet.data.check import check_dataset, check_voc
    from unidet.data.convert import check_new, write_json

    if args.json:
        check_new(args.json, overwrite=args.overwrite)
    decode = not args.no_decode
    reports = [
        check_voc(path, _split(args, path), args.images, decode=decode)
        if Path(path).is_dir()
        else check_dataset(path, args.images, decode=decode)
        for path in args.annotations
    ]
    for report in reports:
        print(report.summary(limit=0 if args.all else 5))
    if args.json:
        content = {"files": [report.to_dict() for report in reports]}
        write_json(content, args.json, overwrite=args.overwrite)
    return int(any(report.defects for report in reports))


def _subset(args: argparse.Namespace) -> int:
    from unidet.data.coco import read_json
    from unidet.data.convert import check_new, write_json
    from unidet.data.subset import (
        published_name,
        random_subset,
        subset_content,
        subset_table,
    )

    folder, published = Path(args.source).is_dir(), args.rule == "unidetector"
    out = args.out
    if out is None:
        if folder or not published or args.percent is None:
            raise UserError("Missing option --out. Expected the file to write.")
        out = published_name(args.source, args.percent, args.seed)
    check_new(out, overwrite=args.overwrite)
    whole = _load(args, on_bad="error")
    part = random_subset(
        whole, percent=args.percent, count=args.count, seed=args.seed, rule=args.rule
    )
    if folder or args.classes is not None:
        content = part.to_coco()
    else:
        content = subset_content(read_json(args.source), part)
    if published:
        content = {key: content[key] for key in ("images", "annotations", "categories")}
    path = write_json(content, out, overwrite=args.overwrite)
    print(subset_table([("before", whole), ("after", part)]))
    print(f"Written: {path}")
    return 0


def _frequencies(args: argparse.Namespace) -> int:
    from unidet.data.convert import check_new, write_json
    from unidet.data.frequencies import count_frequencies

    source = Path(args.source)
    out = args.out or source.with_name(f"{source.name.removesuffix('.json')}_cat_info.json")
    check_new(out, overwrite=args.overwrite)
    entries = count_frequencies(_load(args, on_bad="error"))
    path = write_json(entries, out, overwrite=args.overwrite)
    absent = sum(not entry["image_count"] for entry in entries)
    boxes = sum(entry["instance_count"] for entry in entries)
    print(f"Written: {path} ({len(entries):,} categories, {boxes:,} boxes, {absent:,} without any)")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from unidet.data.convert import write_coco

    dataset = _load(args, on_bad=args.on_bad)
    path = write_coco(dataset, args.out, overwrite=args.overwrite)
    for line in dataset.skipped:
        print(f"Left out: {line}")
    print(
        f"Written: {path} ({len(dataset):,} images, {dataset.num_boxes:,} boxes, "
        f"{dataset.num_classes:,} classes)"
    )
    return 0


def _split(args: argparse.Namespace, source: str | Path) -> str:
    if not args.split:
        raise UserError(f"Missing --split. Expected a list of {source}/ImageSets/Main.")
    return str(args.split)


def _load(args: argparse.Namespace, on_bad: str) -> DetectionDataset:
    from unidet.data.coco import load_coco
    from unidet.data.voc import load_voc

    source, names = Path(args.source), _names(args.classes)
    if not source.is_dir():
        folder = args.images or source.parent
        return load_coco(source, folder, class_names=names, on_bad=on_bad)
    split = _split(args, source)
    return load_voc(source, split, class_names=names, images_dir=args.images, on_bad=on_bad)


def _scenes(args: argparse.Namespace) -> int:
    from unidet.data.scenes import SCENE_CLASSES, generate_scenes

    names = _names(args.classes)
    path = generate_scenes(
        args.out,
        args.count,
        size=(args.size[0], args.size[1]),
        seed=args.seed,
        classes=SCENE_CLASSES if names is None else names,
        max_objects=args.max_objects,
        start=args.start,
        colours=_names(args.colours) or (),
        without=_names(args.without) or (),
        overwrite=args.overwrite,
    )
    print(f"Written: {path} ({args.count:,} images)")
    return 0


def _vectors(args: argparse.Namespace) -> int:
    from unidet.data.coco import load_coco
    from unidet.data.scene_vectors import write_vectors

    names = load_coco(args.data, Path(args.data).parent).class_names
    path = write_vectors(names, args.out, dim=args.dim, seed=args.seed, overwrite=args.overwrite)
    print(f"Written: {path} ({len(names):,} names x {args.dim})")
    return 0
