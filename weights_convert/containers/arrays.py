"""safetensors and NumPy archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from unidet.errors import UserError
from unidet.files import arrays as files
from unidet.files.shown import cut, printable

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
                    title = printable(cut(name, 80))
                    raise CheckpointError(f"the tensor {title} has the unsupported dtype {kind}")
                else:
                    arrays[name] = file.get_tensor(name)
    except CheckpointError:
        raise
    # Besides its own errors the library passes on those of the system and of NumPy.
    except Exception as error:
        reason = printable(cut(str(error), 200))
        raise CheckpointError(f"the safetensors file is damaged or cut off ({reason})") from error
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
        return files.read_npz(path)
    except UserError as error:
        raise CheckpointError(str(error)) from None
