"""safetensors and NumPy archives."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from ..checksums import verify
from ..errors import CheckpointError
from .info import ContainerInfo


def read_safetensors(path: Path, info: ContainerInfo, **_: Any) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, in the file's own order.

    Raises:
        CheckpointError: it is damaged, does not fit its checksums or holds a dtype that NumPy
            lacks.
    """
    arrays: dict[str, np.ndarray] = {}
    half: list[str] = []
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            info.metadata.update(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                kind = file.get_slice(name).get_dtype()
                if kind == "BF16":
                    half.append(name)
                elif kind.startswith("F8") or kind.startswith("F4"):
                    raise CheckpointError(f"the tensor {name} has the unsupported dtype {kind}")
                else:
                    arrays[name] = file.get_tensor(name)
    except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"the safetensors file is damaged or cut off ({error})") from error
    if half:
        arrays.update(_widen(path, half))
        info.notes.append(f"{len(half)} bfloat16 tensors were widened to float32 (exact)")
    verify(path, arrays, info.metadata)
    return arrays


def _widen(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    wanted = set(names)
    found = {}
    for name, part in safetensors.deserialize(path.read_bytes()):
        if name in wanted:
            bits = np.frombuffer(part["data"], "<u2").astype(np.uint32) << 16
            found[name] = bits.view(np.float32).reshape(part["shape"])
    return found


def read_npz(path: Path, info: ContainerInfo, **_: Any) -> dict[str, np.ndarray]:
    """All arrays of a NumPy archive; arrays of Python objects are refused.

    Raises:
        CheckpointError: it is damaged or holds objects.
    """
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except CheckpointError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        ValueError,
        EOFError,
        KeyError,
        SyntaxError,
        NotImplementedError,
        MemoryError,
    ) as error:
        raise CheckpointError(f"the NumPy archive is damaged ({error})") from error


def _check_sizes(path: Path) -> None:
    # Deflate packs at most about 1:1030; more is a lie about the size.
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.file_size > 1100 * (entry.compress_size + 64):
                raise CheckpointError(f"the record {entry.filename} claims {entry.file_size} bytes")
