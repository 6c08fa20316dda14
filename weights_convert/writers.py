"""Writers of checkpoint containers: each file appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from unidet.files.atomic import atomic_path

from .checksums import sealed, without_checksums
from .containers.pickles import METADATA_MARK, TRAILER
from .containers.torch_zip import METADATA_RECORD
from .errors import CheckpointError
from .pickle_writer import Call, Global, Persistent, PickleWriter

_STORAGES = {
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
#: Suffixes and the container that each stands for.
SUFFIXES = {
    ".pth": "torch_zip",
    ".pt": "torch_zip",
    ".bin": "torch_zip",
    ".pkl": "jittor",
    ".safetensors": "safetensors",
}
_ALIGNMENT = 64
_ROOT = "archive"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LOCAL_HEADER = 30
_ZIP64_FIELD = 20
_PADDING_ID = 0x4246

Tree = Mapping[str, Any]
PathLike = str | os.PathLike[str]


def write_torch(
    path: PathLike,
    tree: Tree,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a zip archive that ``torch.load(path, weights_only=True)`` reads.

    Args:
        path: Destination.
        tree: Dictionaries, lists, text, numbers and arrays, nested at will.
        metadata: Our own text (key ``unidet``); PyTorch does not see it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UserError: the destination exists or its folder does not.
        CheckpointError: a dtype that PyTorch cannot hold.
        RunFailedError: the disk is full or refuses the write.
    """
    arrays: list[np.ndarray] = []
    pickle = PickleWriter(2, lambda array: _torch_tensor(array, arrays)).dump(dict(tree))
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        open(temporary, "xb") as file,
        zipfile.ZipFile(file, "w", allowZip64=True) as archive,
    ):
        _record(archive, "data.pkl", pickle)
        _record(archive, ".format_version", b"1")
        _record(archive, ".storage_alignment", str(_ALIGNMENT).encode())
        _record(archive, "byteorder", b"little")
        for i, array in enumerate(arrays):
            _record(archive, f"data/{i}", array)
        _record(archive, "version", b"3\n")
        if metadata and "unidet" in metadata:
            _record(archive, METADATA_RECORD, metadata["unidet"].encode())


def write_jittor(
    path: PathLike,
    tree: Tree,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a pickle of NumPy arrays with the checksum that ``jittor.load`` verifies.

    Args:
        path: Destination. Jittor takes ``.pth``, ``.pt`` and ``.bin`` for PyTorch files.
        tree: Dictionaries, lists, text, numbers and arrays, nested at will.
        metadata: Our own text (key ``unidet``); Jittor does not see it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UserError: the destination exists or its folder does not.
        CheckpointError: a dtype that the file cannot hold.
        RunFailedError: the disk is full or refuses the write.
    """
    body = PickleWriter(4, numpy_call).dump(dict(tree))
    note = METADATA_MARK + metadata["unidet"].encode() if metadata and "unidet" in metadata else b""
    digest = hashlib.sha1(body)
    digest.update(note)
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "xb") as file:
        for part in (body, note, digest.digest(), TRAILER):
            file.write(part)


def write_safetensors(
    path: PathLike,
    arrays: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes one flat state as safetensors.

    Files of ours, with the key ``unidet`` in the metadata, get checksums, which
    :func:`~.containers.read_container` verifies. Files for other libraries go without.

    Args:
        path: Destination.
        arrays: Arrays by name; shapes are kept, 0-d included.
        metadata: Text beside them; checksums of another file in it are replaced or left out.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UserError: the destination exists or its folder does not.
        RunFailedError: the disk is full or refuses the write.
    """
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # Serialised first and written by Python, because the library hides the system's error number.
    text = without_checksums({"format": "pt", **(metadata or {})})
    content = _in_order(save(whole, metadata=sealed(whole, text) if "unidet" in text else text))
    with atomic_path(path, overwrite=overwrite) as temporary:
        write_parts(temporary, content)


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Writes a new file without joining its parts in memory."""
    with open(path, "xb") as file:
        for part in parts:
            file.write(part)


def _in_order(content: bytes) -> tuple[bytes, memoryview]:
    """Header and data of a safetensors file with its metadata sorted.

    The library writes metadata in the order of a hash table, another one in each call.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(content)[end:]


def container_for(path: PathLike) -> str:
    """The container that a destination's suffix asks for.

    Raises:
        CheckpointError: an unknown suffix.
    """
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"Invalid destination {path}. Expected a name that ends in one of "
            f"{', '.join(SUFFIXES)}. Received {suffix or 'no suffix'}."
        )
    return SUFFIXES[suffix]


def _torch_tensor(array: np.ndarray, arrays: list[np.ndarray]) -> Call:
    kind = _STORAGES.get(array.dtype.name)
    if kind is None:
        raise CheckpointError(
            f"Invalid tensor. Expected a dtype of PyTorch. Received {array.dtype.name}."
        )
    array = _little(array)
    key = str(len(arrays))
    arrays.append(array)
    storage = Persistent(("storage", Global("torch", kind), key, "cpu", array.size))
    strides = tuple(step // array.itemsize for step in array.strides)
    hooks = Call(Global("collections", "OrderedDict"), ())
    arguments = (storage, 0, array.shape, strides, False, hooks)
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def numpy_call(array: np.ndarray) -> Call:
    """How a pickle spells an array so that every NumPy reads it.

    Raises:
        CheckpointError: it holds no numbers or text.
    """
    if array.dtype.kind not in "biufcSU":
        raise CheckpointError(
            f"Invalid tensor. Expected numbers. Received an array of {array.dtype.name}."
        )
    array = _little(array)
    kind = array.dtype
    # The names of NumPy 1, which NumPy 2 keeps for old files; Jittor needs NumPy 1.
    code = kind.str[1:]
    order = "|" if kind.itemsize == 1 or kind.kind == "S" else "<"
    size = (kind.itemsize, 1 if kind.kind == "S" else 4) if kind.kind in "SU" else (-1, -1)
    state = (3, order, None, None, None, *size, 0)
    dtype = Call(Global("numpy", "dtype"), (code, False, True), state)
    return Call(
        Global("numpy.core.multiarray", "_reconstruct"),
        (Global("numpy", "ndarray"), (0,), b"b"),
        (1, array.shape, dtype, False, array.tobytes()),
    )


def _little(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _record(archive: zipfile.ZipFile, name: str, content: bytes | np.ndarray) -> None:
    """Stores one record whose bytes start at a multiple of 64, as PyTorch does for mapping."""
    data = content.reshape(-1).view(np.uint8).data if isinstance(content, np.ndarray) else content
    entry = zipfile.ZipInfo(f"{_ROOT}/{name}", _EPOCH)
    entry.file_size = len(data)
    big = entry.file_size * 1.05 > zipfile.ZIP64_LIMIT
    assert archive.fp is not None
    start = archive.fp.tell() + _LOCAL_HEADER + len(entry.filename) + (_ZIP64_FIELD if big else 0)
    padding = -(start + 4) % _ALIGNMENT
    entry.extra = struct.pack("<HH", _PADDING_ID, padding) + b"Z" * padding
    with archive.open(entry, "w", force_zip64=big) as file:
        file.write(data)
