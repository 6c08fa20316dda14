"""`unidet export`: a checkpoint as one ONNX file, photo in, detections out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unidet.cli.options import add_non_finite
from unidet.cli.vocabulary import add_vocabulary_options

_DESCRIPTION = """\
Writes a checkpoint as one standard ONNX file. Its graph holds everything behind the preprocessing
of the photo: network, proposals, suppression, final detections in pixels of the original. Needs
PyTorch and the extra `export`, whichever framework the checkpoint was trained on. The file runs
with onnxruntime alone, also as `unidet predict MODEL.onnx photo.jpg`.
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "export",
        help="write a checkpoint as an ONNX file",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint of unidet")
    parser.add_argument("--out", required=True, metavar="FILE.onnx", help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument(
        "--opset",
        type=int,
        default=17,
        metavar="N",
        help="version of the ONNX operators, 16 to 20 (default: 17)",
    )
    parser.add_argument(
        "--check",
        nargs="+",
        default=[],
        metavar="PHOTO",
        help="run file and model on these photos, or folders of photos, and write the file only if "
        "they agree",
    )
    add_vocabulary_options(parser)
    add_non_finite(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.cli.predict import image_paths
    from unidet.cli.vocabulary import check_vocabulary_options, set_classes
    from unidet.data.images import read_image
    from unidet.detector import Detector
    from unidet.errors import UserError
    from unidet.export.packages import onnx_package, runtime_package
    from unidet.export.write import OPSETS, onnx_bytes, write_onnx
    from unidet.files.atomic import check_target

    # What can be known early is told early.
    if args.opset not in OPSETS:
        raise UserError(
            f"Invalid value for `--opset`. Expected {OPSETS[0]} to {OPSETS[-1]}. "
            f"Received {args.opset}."
        )
    check_vocabulary_options(args)
    check_target(Path(args.out), overwrite=args.overwrite)
    photos = image_paths(args.check)
    for photo in photos:
        read_image(photo)
    onnx_package()
    if photos:
        runtime_package()
    detector = Detector(args.checkpoint, backend="torch", allow_non_finite=args.allow_non_finite)
    set_classes(args, detector)
    content = onnx_bytes(detector, opset=args.opset)
    if photos:
        _check(content, detector, photos)
    write_onnx(content, args.out, overwrite=args.overwrite)
    name = detector.model.config["name"]
    print(f"{name}, opset {args.opset}, {len(content) / 2**20:.1f} MiB  {args.out}")
    return 0


def _check(content: bytes, detector: Any, photos: list[Path]) -> None:
    from unidet.errors import RunFailedError
    from unidet.export import OnnxDetector
    from unidet.export.check import compare, photo_batches

    exported = OnnxDetector(content)
    good = True
    for photo in photos:
        (found,) = compare(exported, detector.model, photo_batches(detector.model, [photo]))
        good = good and found.ok
        print(
            f"{photo}: {found.matched} of {found.reference} detections matched, the file has "
            f"{found.candidate}; boxes within {found.max_box:.1g} px, scores within "
            f"{found.max_score:.1g}"
        )
    if not good:
        raise RunFailedError("The ONNX file and the model differ; nothing was written.")
