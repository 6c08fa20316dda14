"""`unidet convert`: checkpoints between frameworks, libraries and names."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unidet.weights_convert import TensorReport

_DESCRIPTION = """\
Moves checkpoints. Files are read without PyTorch and Jittor, and none of their code runs.
Every tensor keeps its bytes, but for float16 of CLIP, which an import widens and an export
narrows again, both exactly; import, export and inspect list every tensor with --table.
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "convert",
        help="move checkpoints between PyTorch, Jittor and other libraries",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("pt2jt", "PyTorch checkpoint to one that plain jittor.load reads (.pkl)"),
        ("jt2pt", "Jittor checkpoint to one that plain torch.load reads (.pth)"),
    ):
        _writing(actions.add_parser(name, help=text, description=text), rescue=True)
    text = "published checkpoint of another library to a native .safetensors"
    action = actions.add_parser("import", help=text, description=text)
    _writing(action, rescue=True)
    action.add_argument("--from", dest="family", metavar="FAMILY", help=_families())
    action.add_argument(
        "--classes",
        metavar="FILE",
        help="class names: one a line, a JSON list, or an annotation file in COCO form",
    )
    action.add_argument(
        "--partial", action="store_true", help="accept missing and unexpected tensors, and say so"
    )
    _tables(action)
    text = "native checkpoint to the names of another library"
    action = actions.add_parser("export", help=text, description=text)
    _writing(action, rescue=False)
    action.add_argument("--to", dest="family", metavar="FAMILY", required=True, help=_families())
    action.add_argument(
        "--form",
        metavar="NAME",
        help="which naming: torchvision's v1 families have file (before 0.13) and module, "
        "mmdetection's Faster R-CNN has 1.x too, OpenAI's CLIP archive and state, Hugging Face's "
        "DETR file, file_resnet (without timm), memory and memory_resnet",
    )
    _tables(action)
    text = "what a checkpoint holds"
    action = actions.add_parser("inspect", help=text, description=text)
    action.add_argument("source", metavar="SRC")
    action.add_argument("--rescue", action="store_true", help=_RESCUE)
    action.add_argument("--state", metavar="NAME", help=_STATE)
    _tables(action)


_STATE = "which state to take where SRC holds several, such as model_ema or teacher"
_RESCUE = "read a pickle of whole objects for its tensors alone; nothing of it runs"


def _families() -> str:
    # Written out, so that help stays free of imports; a test compares it with the families.
    return (
        "one of torchvision_resnet, torchvision_retinanet_v1, torchvision_retinanet_v2, "
        "torchvision_fasterrcnn_v1, torchvision_fasterrcnn_v2, mmdet_retinanet, "
        "mmdet_retinanet_caffe, mmdet_faster_rcnn, mmdet_faster_rcnn_caffe, mmdet_faster_rcnn_c4, "
        "detectron2_retinanet, detectron2_faster_rcnn, detectron2_faster_rcnn_c4, "
        "yhenon_retinanet, openai_clip, regionclip, regionclip_mmdet, unidetector_e2e, "
        "unidetector_stage2, unidetector_partitioned, unidetector_cln, facebook_detr, "
        "facebook_detr_dc5, huggingface_detr"
    )


def _writing(parser: argparse.ArgumentParser, *, rescue: bool) -> None:
    parser.add_argument("source", metavar="SRC")
    parser.add_argument("destination", metavar="DST")
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")
    if rescue:
        parser.add_argument("--rescue", action="store_true", help=_RESCUE)
        parser.add_argument("--state", metavar="NAME", help=_STATE)
    parser.add_argument(
        "--certify",
        action="store_true",
        help="run the model on both frameworks and write DST.parity.json; fails unless they agree",
    )


def _tables(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", action="store_true", help="print every tensor")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    actions = {
        "pt2jt": _transfer,
        "jt2pt": _transfer,
        "import": _import,
        "export": _export,
        "inspect": _inspect,
    }
    status = actions[args.action](args)
    if getattr(args, "certify", False):
        status = _certify(args) or status
    return status


def _transfer(args: argparse.Namespace) -> int:
    from unidet.weights_convert import jt2pt, pt2jt

    move = pt2jt if args.action == "pt2jt" else jt2pt
    done = move(
        args.source,
        args.destination,
        overwrite=args.overwrite,
        rescue=args.rescue,
        state=args.state,
    )
    print(f"{done.source.title}: {done.tensors} tensors, {done.values:,} values")
    for note in done.notes:
        print(f"note: {note}")
    print(args.destination)
    return 0


def _import(args: argparse.Namespace) -> int:
    from unidet.checkpoints.published import import_checkpoint

    names = _read_names(args.classes) if args.classes else None
    found = import_checkpoint(
        args.source,
        args.destination,
        family=args.family,
        class_names=names,
        strict=not args.partial,
        rescue=args.rescue,
        state=args.state,
        overwrite=args.overwrite,
    )
    _show(found.report, args)
    return 0


def _export(args: argparse.Namespace) -> int:
    from unidet.checkpoints.published import export_checkpoint

    report = export_checkpoint(
        args.source,
        args.destination,
        family=args.family,
        form=args.form,
        overwrite=args.overwrite,
    )
    _show(report, args)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from unidet.checkpoints.inspection import inspect_checkpoint

    found = inspect_checkpoint(args.source, rescue=args.rescue, wanted=args.state)
    print(json.dumps(found.to_json(), indent=1) if args.json else found.text(table=args.table))
    return 0


def _show(report: TensorReport, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(report.to_json(), indent=1))
        return
    if args.table:
        print(report.table())
    else:
        print(report.summary())
        for row in report.with_status("missing", "unexpected", "mismatched"):
            print(f"{row.status}: {row.source or row.target} {row.note}".rstrip())
        for note in report.notes:
            print(f"note: {note}")
    print(args.destination)


def _read_names(path: str) -> list[str]:
    from unidet.text.names import read_names

    return [name.strip() for name in read_names(path).names]


def _certify(args: argparse.Namespace) -> int:
    from unidet.certificate.certify import certify
    from unidet.checkpoints.published import model_and_weights
    from unidet.errors import RunFailedError
    from unidet.weights_convert import digest

    config, arrays = model_and_weights(args.destination)
    options = {key: getattr(args, key) for key in ("state", "rescue") if hasattr(args, key)}
    _, before = model_and_weights(args.source, **options)
    changed = [
        name
        for name in before.keys() | arrays.keys()
        if name not in before or name not in arrays or digest(before[name]) != digest(arrays[name])
    ]
    if changed:
        raise RunFailedError(
            f"{args.destination} does not hold the tensors of {args.source}: {min(changed)} and "
            f"{len(changed) - 1} more differ."
        )
    certificate = certify(config, arrays)
    path = certificate.save(f"{args.destination}.parity.json")
    print(f"{certificate.verdict}  {path}")
    for failure in certificate.failures():
        print(f"failed: {failure}", file=sys.stderr)
    return 0 if certificate.passed else 1
