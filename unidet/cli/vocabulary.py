"""Options of commands that run detectors which classify by text."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unidet.detector import Detector


def add_vocabulary_options(parser: argparse.ArgumentParser) -> None:
    """Those that say what to find."""
    group = parser.add_argument_group("what to find, for detectors that classify by text")
    group.add_argument(
        "--classes",
        action="append",
        metavar="NAMES|@FILE",
        help='names such as "cat, traffic cone", or @FILE with one a line (names that hold a '
        "comma) or of annotations; may be repeated (default: those of the checkpoint)",
    )
    group.add_argument(
        "--embeddings",
        metavar="F.npy",
        help="vectors of the names, of unidet embed; rows are picked by the names beside the file",
    )
    group.add_argument(
        "--clip",
        metavar="CKPT",
        help="CLIP that makes the vectors: a native checkpoint or OpenAI's RN50.pt (default: that "
        "of UNIDET_CLIP); they are kept in the folder of UNIDET_CACHE (default: ~/.cache/unidet)",
    )
    group.add_argument(
        "--templates",
        metavar="NAME|FILE",
        help="sentences for CLIP: unidetector (81), single, plain, or a file with one a line "
        "(default: unidetector)",
    )
    group.add_argument(
        "--bpe", metavar="FILE", help="CLIP's vocabulary (default: see unidet embed --help)"
    )


def add_scoring_options(group: Any) -> None:
    """Those that say how proposals are used and scored."""
    group.add_argument(
        "--max-proposals",
        type=int,
        metavar="N",
        help="given boxes of an image that are used, the best (default: the checkpoint's, all)",
    )
    group.add_argument(
        "--beta",
        type=float,
        metavar="B",
        help="score = class probability ** B * proposal's score ** (1 - B), 0 to 1 (published "
        "for LVIS: 0.3; default: the checkpoint's, mostly none)",
    )


def read_classes(given: list[str]) -> list[str]:
    """Names of ``--classes``, in their order.

    Raises:
        UserError: no name, one that occurs twice, or a file that holds none.
    """
    from unidet.errors import UserError
    from unidet.text.names import read_names

    names: list[str] = []
    for text in given:
        if text.startswith("@"):
            names += read_names(text[1:]).names
        else:
            names += [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(
            "Invalid value for `--classes`. Expected names such as 'cat, traffic cone'. "
            f"Received {given[0]!r}."
        )
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise UserError(
            f"Invalid value for `--classes`. Expected each name once. Received {twice!r} twice."
        )
    return names


def check_vocabulary_options(args: argparse.Namespace) -> None:
    """Refuses options that would have no effect, before anything is loaded.

    Raises:
        UserError: names the option.
    """
    from unidet.errors import UserError

    for option in ("embeddings", "clip", "templates", "bpe"):
        if getattr(args, option) is not None and not args.classes:
            raise UserError(
                f"Missing option --classes. Expected the names to find with --{option}."
            )
    for option in ("clip", "templates", "bpe"):
        if getattr(args, option) is not None and args.embeddings is not None:
            raise UserError(
                f"Invalid option --{option}. Expected it without --embeddings, which holds "
                "finished vectors. Received both."
            )


def set_classes(args: argparse.Namespace, detector: Detector) -> None:
    """Makes the detector find what ``--classes`` names.

    Raises:
        UserError: see :meth:`unidet.detector.Detector.set_vocabulary`.
    """
    if not args.classes:
        return
    from unidet.errors import UserError
    from unidet.models import ReadsText
    from unidet.text.cache import CLIP_VARIABLE, find_clip

    if not isinstance(detector.model, ReadsText):
        raise UserError(
            "Invalid option --classes. Expected a detector that classifies by text, such as "
            f"unidetector_e2e_r50_c4. Received {args.checkpoint}, a "
            f"{detector.model.config['name']}, whose classes are fixed."
        )
    names = read_classes(args.classes)
    if args.embeddings is None and find_clip(args.clip) is None:
        raise UserError(
            "Missing text vectors of --classes. Expected --embeddings, a file of unidet embed, or "
            f"--clip, a checkpoint of CLIP that makes them ({CLIP_VARIABLE} may name it)."
        )
    detector.set_vocabulary(
        names,
        args.embeddings,
        clip=args.clip,
        templates=args.templates or "unidetector",
        bpe=args.bpe,
        progress=_tell(),
    )


def read_scoring(args: argparse.Namespace, detector: Detector) -> dict[str, Any]:
    """What the options change in the scoring of the model.

    Returns:
        Changes for ``model.set_scoring``.

    Raises:
        UserError: a number out of range, or an option that the model does not take.
    """
    found: dict[str, Any] = {}
    if args.max_proposals is not None:
        check_taken("max-proposals", "max_proposals_test", args.checkpoint, detector)
        found["max_proposals_test"] = args.max_proposals
    if args.beta is not None:
        check_taken("beta", "beta", args.checkpoint, detector)
        found["beta"] = args.beta
    return found


def check_scoring_numbers(args: argparse.Namespace) -> None:
    """Refuses numbers out of range.

    Raises:
        UserError: names the option.
    """
    from unidet.errors import UserError

    if args.max_proposals is not None and args.max_proposals < 1:
        raise UserError(
            f"Invalid value for `--max-proposals`. Expected 1 or more. Received "
            f"{args.max_proposals}."
        )
    if args.beta is not None and not 0 <= args.beta <= 1:
        raise UserError(
            f"Invalid value for `--beta`. Expected a number in [0, 1]. Received {args.beta}."
        )


def check_taken(option: str, argument: str, checkpoint: str, detector: Detector) -> None:
    """Refuses an option for a model without such an argument.

    Args:
        option: its name without dashes.
        argument: of models that take it.
        checkpoint: of the model, for the message.
        detector: with the model.

    Raises:
        UserError: names option, checkpoint and model.
    """
    from unidet.errors import UserError

    config = detector.model.config
    if argument not in config["arguments"]:
        wanted = "unidetector_e2e_r50_c4"
        if option == "max-proposals":
            wanted = "unidetector_stage2_r50_c4, which classifies given boxes"
        raise UserError(
            f"Invalid option --{option}. Expected it with a detector such as {wanted}. Received "
            f"{checkpoint}, a {config['name']}."
        )


def _tell() -> Any:
    """Says on a terminal or not how far CLIP is, where it takes more than a moment."""
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 5:
            told = time.monotonic()
            print(f"text vectors: {done:,} of {total:,} sentences", file=sys.stderr, flush=True)

    return progress
