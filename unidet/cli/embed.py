"""`unidet embed`: text vectors of class names, for detectors that classify by them."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from unidet.cli.options import add_framework

if TYPE_CHECKING:
    from unidet.text.names import ClassNames

_DESCRIPTION = """\
Puts every class name into sentences, runs CLIP's text tower over them and writes the mean of each
name: a (names, features) array, by default of the same form as UniDetector's published files.
OUT.json says what it was made of. An interrupted run goes on with --resume.
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "embed",
        help="make text vectors of class names with CLIP",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--categories",
        metavar="F",
        required=True,
        help="annotation file in COCO or LVIS form, a JSON list of names, or one name a line",
    )
    parser.add_argument(
        "--clip",
        metavar="CKPT",
        required=True,
        help="CLIP: a native checkpoint or OpenAI's RN50.pt",
    )
    parser.add_argument("--out", metavar="OUT.npy", required=True, help="where the array goes")
    parser.add_argument(
        "--templates",
        metavar="NAME|FILE",
        default="unidetector",
        help="sentences: unidetector (81), single, plain, or a file with one a line and {} for the "
        "name (default: unidetector)",
    )
    parser.add_argument(
        "--clean",
        metavar="NAME",
        default="official",
        help="official: no ',' and a blank for '+'; words: a blank for '_' as well; verbatim "
        "(default: official)",
    )
    parser.add_argument(
        "--normalise",
        metavar="NAME",
        default="none",
        help="what gets unit length: none, features (of each sentence), mean or both "
        "(default: none)",
    )
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="(default: float16)"
    )
    parser.add_argument(
        "--bpe",
        metavar="FILE",
        help="CLIP's vocabulary bpe_simple_vocab_16e6.txt.gz (default: that of UNIDET_BPE, or the "
        "one inside an installed openai-clip or open_clip_torch)",
    )
    add_framework(parser)
    parser.add_argument(
        "--batch-size",
        type=int,
        default=128,
        metavar="N",
        help="sentences at a time (default: 128)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.npy if it exists")
    parser.add_argument(
        "--allow-duplicates",
        action="store_true",
        help="accept a list that names a class twice; categories of annotations always may",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from unidet.text.embedding import EmbeddingOptions
    from unidet.text.embedding_files import embed_to_file
    from unidet.text.names import read_names
    from unidet.text.templates import read_templates

    found = read_names(args.categories)
    _check_duplicates(found, args)
    options = EmbeddingOptions(
        read_templates(args.templates), args.clean, args.normalise, args.batch_size
    )
    with Display() as display:
        vectors = embed_to_file(
            found.names,
            args.clip,
            args.out,
            options=options,
            dtype=args.dtype,
            vocabulary=args.bpe,
            backend=args.backend,
            device=args.device,
            resume=args.resume,
            overwrite=args.overwrite,
            progress=display,
        )
    rows, columns = vectors.shape
    print(f"{rows} names x {columns} {vectors.dtype}  {args.out}")
    return 0


def _check_duplicates(found: ClassNames, args: argparse.Namespace) -> None:
    """Equal names get equal rows: right for categories that differ by id, a slip in a list."""
    from unidet.errors import UserError

    repeated = found.repeated()
    if not repeated:
        return
    text = ", ".join(map(repr, repeated[:5])) + (" ..." if len(repeated) > 5 else "")
    if not (found.categories or args.allow_duplicates):
        raise UserError(
            f"Invalid class names {args.categories}. Expected different names. Received {text} "
            "more than once; --allow-duplicates accepts that."
        )
    print(
        f"warning: {args.categories} has names that occur more than once: {text}; their rows are "
        "the same",
        file=sys.stderr,
    )


class Display:
    """Sentences done, their rate and the time left: a bar on a terminal, lines elsewhere."""

    #: Seconds between two lines.
    EVERY = 10.0

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress

        console = Console(stderr=True)
        self._terminal = console.is_terminal
        self._bar = Progress(
            "sentences",
            BarColumn(),
            MofNCompleteColumn(),
            "{task.fields[pace]}",
            console=console,
            disable=not self._terminal,
            transient=True,
        )
        self._task = self._bar.add_task("sentences", pace="")
        self._first: tuple[float, int] | None = None
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Takes in how far the work is."""
        now = time.monotonic()
        if self._first is None:
            # The first batch compiles, and what a resumed run found there took no time.
            self._first = (now, done)
        pace = self._pace(now, done, total)
        self._bar.update(self._task, completed=done, total=total, pace=pace)
        if not self._terminal and (done == total or now - self._told >= self.EVERY):
            self._told = now
            print(f"{done:,} of {total:,} sentences  {pace}".rstrip(), file=sys.stderr, flush=True)

    def _pace(self, now: float, done: int, total: int) -> str:
        start, before = self._first or (now, done)
        if done == before:
            return ""
        rate = (done - before) / max(now - start, 1e-6)
        minutes, seconds = divmod(round((total - done) / rate), 60)
        return f"{rate:,.0f} a second  {minutes}:{seconds:02d} left"

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._bar.stop()
