"""Text vectors as files: the array, what it was made of, and what an interrupted run had done."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import unidet
from unidet.errors import UserError
from unidet.files.arrays import read_npz
from unidet.files.atomic import atomic_path, check_target
from unidet.files.outputs import check_output, make_parent
from unidet.text.embedding import Embedder, EmbeddingOptions, Progress, Sums
from unidet.text.tokenizer import Tokenizer
from unidet.text.vocabulary import find_vocabulary

DTYPES = ("float16", "float32")
#: Seconds between two saves of what is done.
SAVE_EVERY = 20.0


@dataclass(frozen=True)
class EmbeddingFiles:
    """The three files of one result.

    Attributes:
        array: ``.npy``; once it is there, the result is whole.
    """

    array: Path

    def __post_init__(self) -> None:
        if self.array.suffix != ".npy":
            raise UserError(f"Invalid destination {self.array}. Expected a name that ends in .npy.")

    @property
    def description(self) -> Path:
        """JSON: names, options and origin."""
        return self.array.with_suffix(".json")

    @property
    def partial(self) -> Path:
        """Sums of an unfinished run."""
        return self.array.with_name(f"{self.array.name}.partial")

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuses to replace what nobody asked to replace, before anything is computed.

        Raises:
            UserError: the result is there, or the beginning of one that was not asked for.
        """
        check_output(self.array)
        if not self.array.parent.exists():
            return
        check_target(self.array, overwrite=overwrite)
        # A description without its array is left from a run that was killed at its very end.
        unfinished = self.partial.is_file() and not self.array.exists()
        check_target(self.description, overwrite=overwrite or unfinished)
        if self.partial.is_file() and not (resume or overwrite):
            raise UserError(
                f"Invalid destination {self.array}. An unfinished run left {self.partial}: "
                "--resume goes on from it, --overwrite starts again."
            )


def load_clip(path: str | Path, *, backend: str | None = None, device: str = "cpu") -> Any:
    """A CLIP from a checkpoint.

    Args:
        path: a native checkpoint, or OpenAI's file.
        backend: ``"torch"`` or ``"jittor"``; see :func:`unidet.backends.resolve`.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        UserError: no checkpoint, or one of a model without a text tower.
    """
    from unidet.backends import nn
    from unidet.checkpoints.published import model_and_weights
    from unidet.models import create_from, model_spec
    from unidet.models.clip import CLIP

    config, arrays = model_and_weights(path)
    name = config["name"]
    if not issubclass(model_spec(name).constructor, CLIP):
        raise UserError(
            f"Invalid checkpoint {path}. Expected a CLIP with its text tower, such as clip_rn50. "
            f"Received {name}."
        )
    model = create_from(name, config.get("arguments", {}), backend=backend, seed=None)
    nn.load_arrays(model, arrays)
    return nn.to_device(model, device)


def embed_to_file(
    names: tuple[str, ...],
    clip: str | Path,
    out: str | Path,
    *,
    options: EmbeddingOptions | None = None,
    dtype: str = "float16",
    vocabulary: str | Path | None = None,
    backend: str | None = None,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> np.ndarray:
    """Computes text vectors and writes them as ``.npy``, with a description beside it.

    Args:
        names: in the order of the rows.
        clip: checkpoint of a CLIP.
        out: the ``.npy``; ``(names, embed_dim)`` in C order.
        options: those of UniDetector's published files by default.
        dtype: one of ``DTYPES``.
        vocabulary: file of merges; see :func:`unidet.text.vocabulary.find_vocabulary`.
        backend: see :func:`unidet.backends.resolve`; an interrupted run may go on with another.
        device: ``"cpu"`` or ``"cuda"``.
        resume: go on from what an interrupted run of the same inputs had done.
        overwrite: replace an earlier result, or an unfinished one.
        progress: told after each batch.

    Returns:
        What was written.

    Raises:
        UserError: bad input; nothing was written then.
        RunFailedError: the disk refused a write.
    """
    options = options or EmbeddingOptions()
    if dtype not in DTYPES:
        raise UserError(
            f"Invalid value for `dtype`. Expected one of {', '.join(DTYPES)}. Received {dtype!r}."
        )
    files = EmbeddingFiles(Path(out))
    files.check(resume=resume, overwrite=overwrite)
    merges = find_vocabulary(vocabulary)
    tokenizer = Tokenizer(merges)
    model = load_clip(clip, backend=backend, device=device)
    embedder = Embedder(model, tokenizer, names, options)
    origin = {
        "names": list(names),
        "options": {**asdict(options), "templates": list(options.templates)},
        "clip": {"model": model.model_name, "sha256": file_digest(clip)},
        "vocabulary_sha256": file_digest(merges),
    }
    key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    sums = _read_partial(files.partial, key, embedder) if resume else embedder.start()
    make_parent(files.array)
    _compute(embedder, sums, files.partial, key, progress)
    vectors = np.ascontiguousarray(embedder.vectors(sums), dtype)
    described = {**origin, "shape": list(vectors.shape), "dtype": dtype}
    _write(files, vectors, {"unidet": unidet.__version__, **described})
    return vectors


def _compute(
    embedder: Embedder, sums: Sums, partial: Path, key: str, progress: Progress | None
) -> None:
    """All batches that are missing; what is done stays on disk however the run ends."""
    saved = time.monotonic()
    kept = sums.batches
    try:
        for done in embedder.add_batches(sums):
            if progress is not None:
                progress(done, embedder.total)
            if time.monotonic() - saved > SAVE_EVERY:
                _write_partial(partial, key, sums)
                saved, kept = time.monotonic(), sums.batches
    except KeyboardInterrupt:
        if sums.batches > kept:
            _write_partial(partial, key, sums)
        raise


def _write(files: EmbeddingFiles, vectors: np.ndarray, described: dict[str, Any]) -> None:
    """The array last: it is what a reader takes for the result."""
    with atomic_path(files.description, overwrite=True) as temporary:
        text = json.dumps(described, indent=1, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")
    with atomic_path(files.array, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.save(file, vectors, allow_pickle=False)
    files.partial.unlink(missing_ok=True)


def _write_partial(path: Path, key: str, sums: Sums) -> None:
    with atomic_path(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.savez(file, key=np.array(key), batches=np.array(sums.batches), values=sums.values)


def _read_partial(path: Path, key: str, embedder: Embedder) -> Sums:
    """What an interrupted run had done; nothing where there was none.

    Raises:
        UserError: a damaged file, or one of other names, options or weights.
    """
    fresh = embedder.start()
    if not path.is_file():
        return fresh
    try:
        content = read_npz(path)
        found, batches = str(content["key"]), int(content["batches"])
        values = np.array(content["values"], np.float64)
        if not 0 <= batches <= embedder.total:
            raise ValueError(batches)
    except (UserError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"Invalid partial result {path}. It is damaged; --overwrite in place of --resume "
            "starts again."
        ) from error
    if found != key or values.shape != fresh.values.shape:
        raise UserError(
            f"Invalid partial result {path}. It belongs to other names, options or weights; "
            "--overwrite in place of --resume starts again."
        )
    return Sums(values, batches)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
