"""Looks up the text vectors of class names: in memory, in a file, or computed by CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError, suggestion
from unidet.text.cache import CLIP_VARIABLE, cached_vectors, find_clip
from unidet.text.embedding import EmbeddingOptions, Progress
from unidet.text.stored import read_embeddings, stored_names
from unidet.text.templates import read_templates


def checked_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Names of a vocabulary, without blanks around them.

    Raises:
        UserError: none, one that is no text, or one that occurs twice.
    """
    if isinstance(class_names, str):
        raise UserError(
            "Invalid value for `class_names`. Expected a list of names. "
            f"Received the text {class_names!r}."
        )
    names: list[str] = []
    for name in class_names:
        if not isinstance(name, str) or not name.strip():
            raise UserError(
                f"Invalid value for `class_names`. Expected a text for each. Received {name!r}."
            )
        if name.strip() in names:
            raise UserError(
                "Invalid value for `class_names`. Expected each name once. "
                f"Received {name.strip()!r} twice."
            )
        names.append(name.strip())
    if not names:
        raise UserError(
            "Invalid value for `class_names`. Expected at least one name. Received none."
        )
    return tuple(names)


def find_vectors(
    names: Sequence[str],
    embeddings: Any = None,
    *,
    length: int,
    clip: str | Path | None = None,
    templates: str | Path = "unidetector",
    clean: str = "official",
    vocabulary: str | Path | None = None,
    backend: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> np.ndarray:
    """Vectors of class names.

    Args:
        names: in the order of the rows of the result.
        embeddings: ``(C, length)`` numbers in the order of the names; a table from name to vector;
            or a file, see :func:`vectors_of_file`.
        length: numbers of a vector.
        clip: checkpoint of a CLIP that computes them, in place of ``embeddings``; that of
            ``UNIDET_CLIP`` by default. See :func:`unidet.text.cache.cached_vectors`.
        templates: see :func:`unidet.text.templates.read_templates`; for CLIP alone, as all that
            follow.
        clean: a key of :data:`unidet.text.names.CLEANING`.
        vocabulary: file of merges; see :func:`unidet.text.vocabulary.find_vocabulary`.
        backend: see :func:`unidet.backends.resolve`.
        device: ``"cpu"`` or ``"cuda"``.
        progress: told after each batch.

    Returns:
        ``(C, length)``, of numbers that the model still has to check.

    Raises:
        UserError: neither source or both, a name without a vector, or a file that does not fit.
    """
    if embeddings is not None:
        if clip is not None:
            raise UserError(
                "Invalid value for `clip`. Expected none beside `embeddings`. "
                f"Received {str(clip)!r}."
            )
        if isinstance(embeddings, (str, Path)):
            return vectors_of_file(embeddings, names, length)
        return _vectors_of(embeddings, names)
    found = find_clip(clip)
    if found is None:
        raise UserError(
            "Missing text vectors of the class names. Expected `embeddings`, such as a file of "
            "`unidet embed`, or `clip`, a checkpoint of CLIP that makes them "
            f"({CLIP_VARIABLE} may name it)."
        )
    return cached_vectors(
        names,
        found,
        length=length,
        options=EmbeddingOptions(read_templates(templates), clean),
        vocabulary=vocabulary,
        backend=backend,
        device=device,
        progress=progress,
    )


def vectors_of_file(path: str | Path, names: Sequence[str], length: int) -> np.ndarray:
    """Vectors from a file of embeddings.

    Args:
        path: ``.npy``. Where ``unidet embed`` left its description beside it, rows are picked by
            name; else there has to be one row for each name, in their order.
        names: to look up.
        length: numbers of a vector.

    Returns:
        ``(names, length)`` float32.

    Raises:
        UserError: see :func:`unidet.text.stored.read_embeddings`, or names or length do not fit.
    """
    rows = read_embeddings(path)
    check_length(path, rows, length)
    stored = stored_names(path)
    if stored is None:
        if len(rows) != len(names):
            raise UserError(
                f"Invalid text embeddings {path}. Expected {len(names)} rows, one for each class "
                f"name. Received {len(rows)}, and no description beside the file names them."
            )
        return rows
    if len(stored) != len(rows):
        raise UserError(
            f"Invalid description {Path(path).with_suffix('.json')}. Expected {len(rows)} names, "
            f"one for each row of {path}. Received {len(stored)}."
        )
    places = {name.strip(): i for i, name in reversed(list(enumerate(stored)))}
    _check_known(names, places, f"text embeddings {path}")
    return rows[[places[name] for name in names]]


def check_length(path: str | Path, rows: np.ndarray, length: int) -> None:
    """Refuses vectors of another length than the model's.

    Raises:
        UserError: names the file and both lengths.
    """
    if rows.shape[1] != length:
        raise UserError(
            f"Invalid text embeddings {path}. Expected rows of {length} numbers, as the model's "
            f"embeddings. Received {rows.shape[1]}."
        )


def _vectors_of(embeddings: Any, names: Sequence[str]) -> np.ndarray:
    if isinstance(embeddings, Mapping):
        _check_known(names, embeddings, "value for `embeddings`")
        embeddings = [embeddings[name] for name in names]
    try:
        return np.asarray(embeddings, np.float32)
    except (TypeError, ValueError):
        raise UserError(
            "Invalid value for `embeddings`. Expected an array of numbers with a row for each "
            "class name. Received rows of several lengths, or no numbers."
        ) from None


def _check_known(names: Sequence[str], known: Mapping[str, Any], what: str) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"Invalid {what}. Expected a row for each class name. Received none for {name!r} "
                f"among {len(known)}.{suggestion(name, list(known))}"
            )
