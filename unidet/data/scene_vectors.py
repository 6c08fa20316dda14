"""Text-like vectors of composed names: a stand-in for a text encoder, on generated scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unidet.backends.random import stream
from unidet.errors import UserError
from unidet.files.atomic import atomic_path
from unidet.files.outputs import check_output, make_parent


def compositional_vectors(class_names: Sequence[str], dim: int, seed: int = 0) -> np.ndarray:
    """Vectors of names such as "red disc", in which parts that names share are shared.

    Every word has a random direction, drawn from the seed and the word alone; a name is the sum of
    its words at unit length. What a text encoder knows of meaning is reduced to this: names that
    share a word are close, and a name never seen lies where its words point.

    Args:
        class_names: words separated by blanks.
        dim: length of a vector.
        seed: of the words' directions.

    Returns:
        ``(C, dim)`` float32 of unit length.

    Raises:
        UserError: a name without a word, or ``dim`` below 2.
    """
    if dim < 2:
        raise UserError(f"Invalid value for `dim`. Expected 2 or more. Received {dim}.")
    rows = []
    for name in class_names:
        words = name.lower().split()
        if not words:
            raise UserError(
                "Invalid value for `class_names`. Expected words in each. Received an empty name."
            )
        total = np.sum([_direction(word, dim, seed) for word in words], axis=0)
        rows.append(total / np.linalg.norm(total))
    return np.array(rows, np.float32).reshape(len(rows), dim)


def _direction(word: str, dim: int, seed: int) -> np.ndarray:
    drawn = stream(seed, "word", word).normal(size=dim)
    return drawn / np.linalg.norm(drawn)


def write_vectors(
    class_names: Sequence[str],
    path: str | Path,
    *,
    dim: int,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Writes :func:`compositional_vectors` as ``unidet embed`` writes embeddings.

    Beside ``NAME.npy`` lies ``NAME.json`` with the names of the rows.

    Raises:
        UserError: another suffix, a file that exists, or see :func:`compositional_vectors`.
    """
    path = Path(path)
    beside = path.with_suffix(".json")
    if path.suffix != ".npy":
        raise UserError(
            f"Invalid destination. Expected a name that ends in .npy. Received {str(path)!r}."
        )
    for target in (path, beside):
        check_output(target)
        if target.exists() and not overwrite:
            raise UserError(f"File exists: {target}. Choose another name or pass --overwrite.")
    rows = compositional_vectors(class_names, dim, seed)
    make_parent(path)
    about = {"names": list(class_names), "kind": "compositional", "dim": dim, "seed": seed}
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "xb") as file:
        np.save(file, rows)
    with atomic_path(beside, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return path
