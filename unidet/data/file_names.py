"""What a file name in an annotation or a list means, and how files of many images are named.

One rule for all formats: the name as it is spelt comes first, then the same name as other systems
and tools spell it, then ever shorter ends of it, for copies of the data in other folders.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from unidet.files.reading import is_file
from unidet.files.shown import shown

#: Characters of the longest name that is looked for in other spellings than its own.
_LONGEST = 4096
_PARTS = 32
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*/")
_DRIVE = re.compile(r"[A-Za-z]:")


def image_name(entry: Mapping[str, Any]) -> str | None:
    """``file_name``, or for LVIS v1 the end of ``coco_url``: ``val2017/000000123.jpg``."""
    name, url = entry.get("file_name"), entry.get("coco_url")
    if isinstance(name, str) and name.strip():
        return name
    if not isinstance(url, str):
        return None
    return "/".join(_parts(_URL.sub("", url, count=1))[-2:]) or None


def find_image(folder: Path, file_name: str) -> Path:
    """The file that a name of an annotation file means.

    Args:
        folder: of the images.
        file_name: as spelt there: relative or not, with slashes or backslashes, a URL, of a copy
            that had other folders above or the prefix of COCO 2014.

    Returns:
        The first file that is there, or where there is none the place where it is expected.
    """
    found = find_file(folder, file_name)
    if found is not None:
        return found
    for spelling in _spellings(file_name):
        last = spelling[-1]
        if last.startswith("COCO_"):
            candidate = folder / last.rpartition("_")[2]
            if is_file(candidate):
                return candidate
    return folder / file_name


def find_file(folder: Path, name: str) -> Path | None:
    """The file of a folder that a name means, see :func:`find_image`; None if there is none."""
    exact = folder / name
    if is_file(exact):
        return exact
    spellings = list(_spellings(name))
    # The longest end that fits decides, so that sub-folders count wherever they exist.
    for length in range(max(map(len, spellings), default=0), 0, -1):
        for parts in spellings:
            if len(parts) >= length:
                candidate = folder.joinpath(*parts[-length:])
                if is_file(candidate):
                    return candidate
    return None


def relative_name(path: Path, folder: Path) -> str:
    """``path`` within ``folder``, with slashes; sub-folders are kept."""
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.as_posix()


def twice_used(path: Path, name: str, used: dict[Path, str]) -> str | None:
    """What is wrong if another image has this file already; otherwise notes the file as used.

    Args:
        path: of the file.
        name: as the annotation file spells it.
        used: name of each file so far; changed here.
    """
    if path not in used:
        used[path] = name
        return None
    other = used[path]
    return f"{shown(other)} and {shown(name)} are one file, {path}: expected a file for each image"


def output_names(names: Iterable[str], suffix: str | Sequence[str] = ".jpg") -> list[str]:
    """A relative path for the output that belongs to each image; no two are the same.

    Sub-folders are kept, and a number is added where two would share one path. No path leads out
    of the folder that it is written to.

    Args:
        names: of the images, as the annotation file spells them.
        suffix: of the outputs, or one for each.
    """
    taken: set[str] = set()
    result = []
    for i, name in enumerate(names):
        ending = suffix if isinstance(suffix, str) else suffix[i]
        parts = [_writable(part) for part in _parts(name)] or ["image"]
        stem = Path(parts[-1]).stem
        parts[-1], number = f"{stem}{ending}", 1
        # Some file systems take names for the same that differ in case or in composition.
        while _folded("/".join(parts)) in taken:
            number += 1
            parts[-1] = f"{stem}-{number}{ending}"
        taken.add(_folded("/".join(parts)))
        result.append("/".join(parts))
    return result


def _spellings(name: str) -> Iterator[list[str]]:
    """Parts of a name as other systems and tools would spell it, each way once."""
    if len(name) > _LONGEST:
        return
    seen = set()
    stripped = name.strip()
    for text in (stripped, _URL.sub("", stripped, count=1), _without_query(stripped)):
        for plain in (text, text.replace("\\", "/")):
            for decoded in (plain, unquote(plain, errors="surrogateescape")):
                for composed in (decoded, *_composed(decoded)):
                    parts = [p for p in composed.split("/") if p not in ("", ".", "..")]
                    if parts and _DRIVE.fullmatch(parts[0]):
                        parts = parts[1:]
                    key = tuple(parts)
                    if parts and len(parts) <= _PARTS and key not in seen:
                        seen.add(key)
                        yield parts


def _composed(text: str) -> Sequence[str]:
    return [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]


def _without_query(text: str) -> str:
    if not _URL.match(text):
        return text
    return _URL.sub("", re.split(r"[?#]", text, maxsplit=1)[0], count=1)


def _parts(name: str) -> list[str]:
    text = _URL.sub("", name, count=1).replace("\\", "/")
    parts = [part for part in text.split("/") if part.strip() not in ("", ".", "..")]
    return parts[1:] if len(parts) > 1 and _DRIVE.fullmatch(parts[0]) else parts


def _writable(part: str) -> str:
    kept = "".join(c if c.isprintable() and c != ":" else "_" for c in part)
    return kept if len(kept) <= 100 else f"{kept[:60]}~{kept[-30:]}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
