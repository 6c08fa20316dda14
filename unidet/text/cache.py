"""Cache of text vectors in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from unidet.errors import RunFailedError, UserError
from unidet.files.arrays import read_npz
from unidet.files.atomic import atomic_path
from unidet.files.outputs import make_parent
from unidet.files.reading import parse_json
from unidet.text.embedding import EmbeddingOptions, Progress, embed_names
from unidet.text.embedding_files import file_digest, load_clip
from unidet.text.tokenizer import Tokenizer
from unidet.text.vocabulary import find_vocabulary

logger = logging.getLogger(__name__)

#: Environment variable that names the folder.
VARIABLE = "UNIDET_CACHE"
#: Environment variable that names the CLIP checkpoint of those who give none.
CLIP_VARIABLE = "UNIDET_CLIP"


def cache_folder() -> Path:
    """Folder of ``UNIDET_CACHE``; by default ``unidet`` in the user's cache folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unidet"


def find_clip(clip: str | Path | None = None) -> Path | None:
    """The CLIP checkpoint.

    Args:
        clip: the file; by default that of ``UNIDET_CLIP``, or none.

    Raises:
        UserError: there is no such file.
    """
    named = clip or os.environ.get(CLIP_VARIABLE)
    if not named:
        return None
    if not Path(named).is_file():
        origin = "" if clip else f", which {CLIP_VARIABLE} names"
        raise UserError(f"Checkpoint of CLIP not found: {named}{origin}.")
    return Path(named)


def cached_vectors(
    names: Sequence[str],
    clip: str | Path,
    *,
    length: int | None = None,
    options: EmbeddingOptions | None = None,
    vocabulary: str | Path | None = None,
    backend: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> np.ndarray:
    """Text vectors of names; those that are not in the cache are computed and kept.

    A vector is found by its name, the content of both files and the options, whichever framework
    computed it.

    Args:
        names: at least one.
        clip: checkpoint of a CLIP.
        length: numbers of a vector; any by default.
        options: those of UniDetector's published files by default.
        vocabulary: file of merges; see :func:`unidet.text.vocabulary.find_vocabulary`.
        backend: see :func:`unidet.backends.resolve`.
        device: ``"cpu"`` or ``"cuda"``.
        progress: told after each batch.

    Returns:
        ``(names, D)`` float32.

    Raises:
        UserError: bad input, or vectors of another length.
    """
    options = options or EmbeddingOptions()
    merges = find_vocabulary(vocabulary)
    path = cache_folder() / "text" / f"{_key(clip, merges, options)}.npz"
    known = _read(path)
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if missing:
        model = load_clip(clip, backend=backend, device=device)
        _check_length(clip, model.embed_dim, length)
        rows = embed_names(
            model, missing, tokenizer=Tokenizer(merges), options=options, progress=progress
        )
        known.update(zip(missing, rows))
        _write(path, known)
    vectors = np.stack([known[name] for name in names])
    _check_length(clip, vectors.shape[1], length)
    return vectors


def _check_length(clip: str | Path, found: int, length: int | None) -> None:
    if length not in (None, found):
        raise UserError(
            f"Invalid checkpoint {clip}. Expected a CLIP whose vectors have {length} numbers, as "
            f"the detector's embeddings. Received one with {found}."
        )


def _key(clip: str | Path, merges: Path, options: EmbeddingOptions) -> str:
    chosen = {k: v for k, v in asdict(options).items() if k != "batch_size"}
    origin = {"clip": file_digest(clip), "merges": file_digest(merges), **chosen}
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, np.ndarray]:
    """Vectors by name; nothing where there is no file, or none that can be read."""
    try:
        content = read_npz(path)
        names = parse_json(str(content["names"]), path)
        rows = np.asarray(content["vectors"], np.float32)
    except (UserError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return {}
    whole = rows.ndim == 2 and len(rows) == len(names) and bool(np.isfinite(rows).all())
    return dict(zip(names, rows)) if whole else {}


def _write(path: Path, known: dict[str, np.ndarray]) -> None:
    """A cache that cannot be written costs time alone, so that is no error."""
    try:
        make_parent(path)
        with atomic_path(path, overwrite=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, names=np.array(json.dumps(list(known))), vectors=[*known.values()])
    except (UserError, RunFailedError) as error:
        logger.warning("Text vectors are not kept: %s", error)
