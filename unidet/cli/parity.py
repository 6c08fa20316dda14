"""`unidet parity`: the same model on two frameworks, compared layer by layer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from unidet.structures import Batch


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "parity",
        help="prove that a model gives the same numbers on both frameworks",
        description="Runs a model with the same weights on two frameworks and compares every "
        "layer, the outputs, the losses, the gradients and the kept detections. Exit status 0 "
        "means PASS, 1 FAIL. Where only one framework is installed, --record writes what one "
        "side computes and --check compares the other side with it on another machine.",
    )
    parser.add_argument(
        "model",
        metavar="CONFIG|CHECKPOINT",
        help="checkpoint of unidet, config, or name of a model (fresh weights)",
    )
    parser.add_argument("--image", metavar="F", help="photo in place of the seeded images")
    parser.add_argument("--json", metavar="OUT", help="write the certificate (*.parity.json)")
    parser.add_argument(
        "--backends",
        default="torch,jittor",
        metavar="A,B",
        help="reference and candidate; torch:cuda is PyTorch on the GPU (default: torch,jittor)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of fresh weights and of the images (default: 0)",
    )
    parser.add_argument(
        "--no-gradients", action="store_true", help="leave out losses and gradients"
    )
    parser.add_argument("--record", metavar="F", help="run one side and write it to this .npz")
    parser.add_argument("--check", metavar="F", help="run one side against this .npz")
    parser.add_argument(
        "--backend", choices=("torch", "jittor"), help="framework for --record and --check"
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where --record and --check compute (default: cpu)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from rich.console import Console

    from unidet.certificate.report import print_certificate
    from unidet.errors import UserError
    from unidet.files.outputs import check_output

    if args.record and args.check:
        raise UserError("Invalid options. Expected one of --record and --check. Received both.")
    check_output(args.json)
    check_output(args.record)
    certificate = _certificate(args)
    if certificate is None:
        return 0
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    print_certificate(certificate, console)
    if args.json:
        print(certificate.save(args.json))
    return 0 if certificate.passed else 1


def _certificate(args: argparse.Namespace) -> Any:
    from unidet.backends import resolve
    from unidet.certificate import certify as parity

    config, arrays = _model(args.model)
    gradients = not args.no_gradients
    side = f"{resolve(args.backend)}:{args.device}" if args.check or args.record else None
    if args.check:
        model = parity.build(config, arrays, side, seed=args.seed)
        return parity.check(model, args.check)
    if args.record:
        model = parity.build(config, arrays, side, seed=args.seed)
        batch = _batch(args, model) or parity.fixed_batch(model, seed=args.seed)
        parity.record(model, batch, args.record, config=config, gradients=gradients)
        print(args.record)
        return None
    backends = tuple(name.strip() for name in args.backends.split(","))
    photo = None
    if args.image:
        photo = _batch(args, parity.build(config, arrays, backends[0], seed=args.seed))
    return parity.certify(
        config, arrays, batch=photo, backends=backends, gradients=gradients, seed=args.seed
    )


def _batch(args: argparse.Namespace, model: Any) -> Batch | None:
    """The photo as the model wants it; without boxes there are no losses to compare."""
    from unidet.data.images import read_image
    from unidet.models.base import example_proposals

    if not args.image:
        return None
    batch = model.preprocess.batch([read_image(args.image)])
    batch.targets = []
    batch.proposals = example_proposals(model, batch.image_sizes)
    return batch


def _model(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray] | None]:
    """Config and weights of a checkpoint, a config file, a shipped config or a model's name."""
    from pathlib import Path

    from unidet.checkpoints.native import load_checkpoint
    from unidet.config import load_config, shipped
    from unidet.errors import UserError, suggestion
    from unidet.models import MODELS

    if text in MODELS:
        return {"name": text, "arguments": {}}, None
    path = Path(text)
    # Whatever else lies there and is no config gets the explanation of a reader of checkpoints.
    if path.suffix == ".safetensors" or (path.exists() and path.suffix not in (".yaml", ".yml")):
        content = load_checkpoint(text)
        return dict(content.model), content.arrays
    if Path(text).is_file() or text.removesuffix(".yaml") in shipped():
        chosen = load_config(text).model
        return {"name": chosen.name, "arguments": dict(chosen.arguments)}, None
    known = [*shipped(), *MODELS]
    raise UserError(
        "Invalid value for `model`. Expected a checkpoint, a config or the name of a model. "
        f"Received {text!r}.{suggestion(text, known)}"
    )
