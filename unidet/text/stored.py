"""Text embeddings from a file, checked against the class names that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unidet.errors import UserError
from unidet.files.reading import read_json


def read_embeddings(path: str | Path, class_names: Sequence[str] | None = None) -> np.ndarray:
    """Text embeddings of a vocabulary.

    Args:
        path: ``.npy`` with an array ``(C, D)`` of floats, as ``unidet embed`` and UniDetector's
            authors write it. Where ``unidet embed`` left its description beside it, the names
            in there are compared too.
        class_names: names that the rows must stand for, in their order.

    Returns:
        ``(C, D)`` float32.

    Raises:
        UserError: no such file, another form, or a vocabulary of other length or names.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Text embeddings not found: {path}")
    try:
        with path.open("rb") as file:
            rows = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"Invalid text embeddings {path}. It cannot be read: {error}.") from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f":
        found = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else "an archive"
        raise UserError(
            f"Invalid text embeddings {path}. Expected a float array of shape (classes, length). "
            f"Received {found}."
        )
    if not len(rows) or not np.isfinite(rows).all():
        raise UserError(
            f"Invalid text embeddings {path}. Expected finite numbers. Received "
            f"{'NaN or infinity' if len(rows) else 'no row'}."
        )
    if class_names is not None:
        _check_names(path, len(rows), tuple(class_names))
    return rows.astype(np.float32)


def stored_names(path: str | Path) -> tuple[str, ...] | None:
    """Names that the description beside an embeddings file gives; None where there is none.

    Raises:
        UserError: the description cannot be read.
    """
    beside = Path(path).with_suffix(".json")
    if not beside.is_file():
        return None
    content = read_json(beside, "Description")
    names = content.get("names") if isinstance(content, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _check_names(path: Path, count: int, names: tuple[str, ...]) -> None:
    if count != len(names):
        raise UserError(
            f"Invalid text embeddings {path}. Expected {len(names)} rows, one for each class "
            f"({names[0]!r} ... {names[-1]!r}). Received {count}."
        )
    for own, name in zip(stored_names(path) or names, names):
        if own != name:
            raise UserError(
                f"Invalid text embeddings {path}. Expected a row for the class {name!r}. "
                f"Received one for {own!r}: classes differ, or their order does."
            )
