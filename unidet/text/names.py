"""Class names: read from files, and cleaned as published text vectors had it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unidet.errors import UserError, suggestion
from unidet.files.reading import parse_json, read_text


def _official(name: str) -> str:
    return name.replace(",", "").replace("+", " ")


#: Ways to make text of a name. ``official`` is that of UniDetector's files: no commas, blanks for
#: '+'; underscores stay. ``words`` also turns underscores into blanks, which suits LVIS better.
CLEANING: dict[str, Callable[[str], str]] = {
    "official": _official,
    "words": lambda name: _official(name).replace("_", " "),
    "verbatim": lambda name: name,
}


@dataclass(frozen=True)
class ClassNames:
    """Names of a file.

    Attributes:
        names: as they stand there, in the order of the labels.
        categories: whether they are the categories of an annotation file, which are told apart by
            their ids.
    """

    names: tuple[str, ...]
    categories: bool

    def repeated(self) -> tuple[str, ...]:
        """Names that occur more than once."""
        return tuple(name for name, count in Counter(self.names).items() if count > 1)


def clean_names(names: Sequence[str], cleaning: str) -> tuple[str, ...]:
    """Names as text.

    Args:
        names: any.
        cleaning: a key of ``CLEANING``.

    Raises:
        UserError: an unknown cleaning, or nothing is left of a name.
    """
    if cleaning not in CLEANING:
        raise UserError(
            f"Invalid value for `clean`. Expected one of {', '.join(CLEANING)}. "
            f"Received {cleaning!r}.{suggestion(cleaning, CLEANING)}"
        )
    cleaned = tuple(CLEANING[cleaning](name) for name in names)
    for name, text in zip(names, cleaned):
        if not text.strip():
            raise UserError(f"Invalid class name {name!r}. Nothing is left of it as text.")
    return cleaned


def read_names(path: str | Path) -> ClassNames:
    """Class names of a file.

    Args:
        path: annotations in the form of COCO or LVIS (categories in the order of their ids), a JSON
            list of names, or a text file with one name a line.

    Raises:
        UserError: no such file, or it holds no names.
    """
    text = read_text(path, "File of class names")
    packed = text.lstrip()[:1] in ("{", "[")
    content: Any = parse_json(text, path, "File of class names") if packed else text.splitlines()
    categories = isinstance(content, dict)
    names = _category_names(content.get("categories"), path) if categories else content
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(_expected(path))
    if not packed:
        names = [name.strip() for name in names if name.strip()]
    if not names or not all(name.strip() for name in names):
        raise UserError(f"Invalid class names {path}. Expected a text for each. Received ''.")
    return ClassNames(tuple(names), categories)


def _category_names(content: Any, path: str | Path) -> list[Any]:
    whole = isinstance(content, list) and all(
        isinstance(entry, dict) and type(entry.get("id")) is int for entry in content
    )
    if not whole:
        raise UserError(_expected(path))
    ids = [entry["id"] for entry in content]
    twice = next((i for i, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"Invalid class names {path}. Two categories have the id {twice}.")
    return [entry.get("name") for entry in sorted(content, key=lambda entry: entry["id"])]


def _expected(path: str | Path) -> str:
    return (
        f"Invalid class names {path}. Expected one name a line, a JSON list of names, or an "
        "annotation file whose categories have an integer id and a name."
    )
