"""`unidet train`: trains a detector."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unidet.cli.options import add_framework, add_overrides

if TYPE_CHECKING:
    from unidet.config import Config
    from unidet.engine.run_folder import RunFolder

QUICKSTART = "quickstart"

_EPILOG = """\
examples:
  unidet train --backend torch              quickstart: a small RetinaNet on generated scenes
  unidet train retinanet_r18_bccd --backend jittor --set data.root=/data/bccd
  unidet train my.yaml --set train.epochs=20 --set optimizer.lr=5e-4 --work-dir runs/lr5e-4
  unidet train --work-dir runs/lr5e-4 --resume             go on after a kill or a crash
  unidet train --work-dir runs/lr5e-4 --resume --backend jittor   go on, on the other framework
  unidet train --keys                       every key of a config, with default and meaning
  unidet train --keys detr_r50              the arguments of a model

A run folder holds config.yaml, log.txt, metrics.jsonl, TensorBoard events, last.safetensors,
best.safetensors, evaluation.json, loss_curve.png and state/, from which --resume goes on.
"""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say what to train, shared by commands that train."""
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="YAML file or name of a shipped config (default: quickstart)",
    )
    add_framework(parser)
    add_overrides(parser, "config")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the run (default: train.seed of the config)"
    )


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "train",
        help="train a detector",
        description="Trains a detector on PyTorch or on Jittor. Without CONFIG it trains the "
        "quickstart model on generated scenes, which needs no data and no download.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--work-dir", metavar="D", help="folder of the run (default: runs/NAME-BACKEND)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="PATH",
        help="go on from the last saved state of the work dir, or of the run PATH",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier run in the work dir"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved config and leave"
    )
    parser.add_argument(
        "--keys",
        nargs="?",
        const="",
        metavar="MODEL",
        help="print every key of a config, its meaning and [default], and leave; with the name of "
        "a model, such as retinanet_r18_fpn, its arguments",
    )


def _arguments_of(name: str) -> str:
    from unidet.models import model_spec
    from unidet.models.arguments import reference

    spec = model_spec(name)
    return reference(spec.constructor.config_class, spec.defaults, spec.accepts)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.config import dump_config, reference

    if args.keys is not None:
        print(_arguments_of(args.keys) if args.keys else reference())
        return 0
    if args.resume is True and args.overwrite:
        from unidet.errors import UserError

        raise UserError("Invalid options. Expected --resume or --overwrite. Received both.")
    config = choose_config(args)
    if args.print_config:
        print(dump_config(config), end="")
        return 0
    from unidet.backends import resolve
    from unidet.backends.parallel import ranks
    from unidet.engine import train

    backend = resolve(args.backend)
    train(
        config,
        backend=backend,
        device=args.device,
        work_dir=work_dir(args, backend),
        resume=args.resume,
        seed=args.seed,
        overwrite=args.overwrite,
        quiet=args.quiet,
    )
    ranks.leave()
    return 0


def choose_config(args: argparse.Namespace) -> Config:
    """The config that is meant: the one named, that of the resumed run, or the quickstart."""
    from unidet.config import load_config
    from unidet.engine.run_folder import RunFolder

    name = args.config
    if name is None and args.resume:
        place = Path(args.work_dir or _default(args)) if args.resume is True else Path(args.resume)
        place = place if place.is_dir() else place.parent
        place = place.parent if place.name in ("state", "diverged") else place
        return _config_of_run(RunFolder(place), args.overrides)
    return load_config(name or QUICKSTART, args.overrides)


def _config_of_run(folder: RunFolder, overrides: list[str]) -> Config:
    """The config of a run; the copy in its state where ``config.yaml`` cannot be read."""
    from unidet.config import from_mapping, load_config
    from unidet.engine.saved_state import open_state
    from unidet.errors import UserError

    try:
        if not folder.config.is_file():
            raise UserError(
                f"Invalid value for `--resume`. Expected the folder of an earlier run. "
                f"Received {folder.root}, which has no config.yaml."
            )
        load_config(folder.config)
    except UserError as error:
        try:
            place, saved = open_state(folder.root)
        except UserError:
            raise error from None
        print(
            f"unidet: {folder.config} cannot be read, so the config in {place} is taken: {error}",
            file=sys.stderr,
        )
        return from_mapping(saved.config, str(place), overrides)
    return load_config(folder.config, overrides)


def work_dir(args: argparse.Namespace, backend: str) -> Path:
    """The folder of the run."""
    if args.work_dir:
        return Path(args.work_dir)
    if args.resume and args.resume is not True and args.config is None:
        place = Path(args.resume)
        place = place if place.is_dir() else place.parent
        return place.parent if place.name in ("state", "diverged") else place
    return _default(args, backend)


def _default(args: argparse.Namespace, backend: str | None = None) -> Path:
    from unidet.backends import resolve

    stem = Path(args.config).stem if args.config else QUICKSTART
    return Path("runs") / f"{stem}-{backend or resolve(args.backend)}"
