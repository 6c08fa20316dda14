"""Text embeddings from a file, checked against the class names that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unidet.errors import UserError
from unidet.files.arrays import read_npy
from unidet.files.reading import is_file, read_json
from unidet.files.shown import shown


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
    rows = read_npy(path, "Text embeddings")
    if rows.ndim != 2 or rows.dtype.kind != "f" or not rows.shape[1]:
        raise UserError(
            f"Invalid text embeddings {path}. Expected a float array of shape (classes, length). "
            f"Received {rows.dtype} {rows.shape}."
        )
    if not len(rows) or not np.isfinite(rows).all():
        raise UserError(
            f"Invalid text embeddings {path}. Expected finite numbers. Received "
            f"{'NaN or infinity' if len(rows) else 'no row'}."
        )
    if class_names is not None:
        _check_names(path, len(rows), tuple(class_names))
    with np.errstate(over="ignore"):
        vectors = rows.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise UserError(
            f"Invalid text embeddings {path}. Expected numbers that float32 holds. Received larger "
            "ones."
        )
    return vectors


def stored_names(path: str | Path) -> tuple[str, ...] | None:
    """Names that the description beside an embeddings file gives; None where there is none.

    Raises:
        UserError: the description cannot be read.
    """
    beside = Path(path).with_suffix(".json")
    if not is_file(beside):
        return None
    content = read_json(beside, "Description of text embeddings")
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, list):
        return None
    for name in names:
        if not isinstance(name, str):
            raise UserError(
                f"Invalid description {beside}. Expected names that are text. "
                f"Received {shown(name)}."
            )
    return tuple(names)


def _check_names(path: Path, count: int, names: tuple[str, ...]) -> None:
    if count != len(names):
        raise UserError(
            f"Invalid text embeddings {path}. Expected {len(names)} rows, one for each class "
            f"({shown(names[0])} ... {shown(names[-1])}). Received {count}."
        )
    for own, name in zip(stored_names(path) or names, names):
        if own != name:
            raise UserError(
                f"Invalid text embeddings {path}. Expected a row for the class {shown(name)}. "
                f"Received one for {shown(own)}: classes differ, or their order does."
            )
