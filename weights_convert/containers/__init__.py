"""Readers of checkpoint containers. None of them imports a framework or runs code from a file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unidet.files.reading import exists, is_file
from unidet.files.shown import cut, printable

from ..errors import CheckpointError, UnsafePickleError
from .arrays import read_npz, read_safetensors
from .info import KINDS, ContainerInfo
from .pickles import TRAILER, read_jittor, read_pickle
from .torch_legacy import MAGIC, read_torch_legacy
from .torch_zip import read_torch_zip
from .unpickler import PICKLE_ERRORS

__all__ = ["KINDS", "ContainerInfo", "detect_container", "read_container"]

_READERS: dict[str, Callable[..., Any]] = {
    "torch_zip": read_torch_zip,
    "torchscript": read_torch_zip,
    "torch_legacy": read_torch_legacy,
    "safetensors": read_safetensors,
    "jittor": read_jittor,
    "pickle": read_pickle,
    "npz": read_npz,
}
_FOREIGN = (
    (b"<", "a web page: the download went wrong"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"\x89HDF", "an HDF5 file"),
)


def read_container(
    path: str | os.PathLike[str], *, rescue: bool = False
) -> tuple[dict[str, Any], ContainerInfo]:
    """Reads a checkpoint file of any supported kind.

    Args:
        path: The file; its name plays no part, the content decides.
        rescue: Read pickles of whole objects for their tensors, with inert stand-ins for classes
            outside the allow-list. No code from the file runs in either mode.

    Returns:
        The content, nested as in the file: dictionaries, lists, text, numbers and arrays
        (C-contiguous, native byte order; bfloat16 widened to float32, which is exact and noted).

    Raises:
        UnsafePickleError: the file names something outside the allow-list.
        CheckpointError: no such file, damaged, cut off, or not a checkpoint.
    """
    file = Path(path)
    kind = detect_container(file)
    info = ContainerInfo(kind, file, file.stat().st_size)
    try:
        tree = _READERS[kind](file, info, rescue=rescue)
    except UnsafePickleError:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"Could not read {file} ({info.title}): {error}.") from error
    except (OSError, *PICKLE_ERRORS) as error:
        raise CheckpointError(
            f"Could not read {file} ({info.title}): {cut(repr(error), 300)}."
        ) from error
    if isinstance(tree, (list, tuple)) and any(isinstance(item, dict) for item in tree):
        info.notes.append("the content is a list: its entries are named 0, 1, ...")
        tree = {str(i): item for i, item in enumerate(tree)}
    if not isinstance(tree, dict):
        raise CheckpointError(
            f"Invalid checkpoint {file}. Expected a dictionary of tensors. "
            f"Received {'nothing that is plain data' if tree is None else type(tree).__name__}."
        )
    return tree, info


def detect_container(path: str | os.PathLike[str]) -> str:
    """The kind of container, a key of :data:`KINDS`, from the file's first and last bytes.

    Raises:
        CheckpointError: no such file, or none of the kinds.
    """
    file = Path(path)
    if not is_file(file):
        what = "a folder" if exists(file) and file.is_dir() else "no such file"
        raise CheckpointError(f"Invalid checkpoint {file}. Expected a file. Received {what}.")
    try:
        with open(file, "rb") as stream:
            head = stream.read(64)
            stream.seek(max(0, file.stat().st_size - 64))
            tail = stream.read()
    except OSError as error:
        raise CheckpointError(f"Could not read {file}: {error.strerror}.") from error
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(file)
    if head.startswith(MAGIC):
        return "torch_legacy"
    if tail.endswith(TRAILER) and file.stat().st_size > 28:
        return "jittor"
    # Before pickle: a header of 640 or 1152 bytes begins like one.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    for start, meaning in _FOREIGN:
        if head.lstrip().startswith(start):
            raise CheckpointError(f"Invalid checkpoint {file}. It is {meaning}.")
    raise CheckpointError(
        f"Invalid checkpoint {file}. Expected one of: {', '.join(KINDS.values())}. "
        + (f"Received a file that starts with {head[:8].hex(' ')}." if head else "It is empty.")
    )


def _zip_kind(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(
            f"Could not read {file}: the zip archive is damaged or cut off ({error})."
        ) from error
    if any(name.endswith("data.pkl") for name in names):
        return "torch_zip"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise CheckpointError(
        f"Invalid checkpoint {file}. Expected a PyTorch or NumPy archive. Received a zip archive "
        f"with {printable(cut(', '.join(names[:3]), 300)) or 'nothing'} in it."
    )
