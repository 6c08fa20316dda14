"""From PyTorch's containers to Jittor's and back; every tensor keeps its bytes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .containers import ContainerInfo, read_container
from .errors import CheckpointError
from .trees import find_state, tensors
from .writers import container_for, write_jittor, write_safetensors, write_torch

_TORCH = ("torch_zip", "torch_legacy", "torchscript", "safetensors", "pickle", "npz")
_JITTOR = ("jittor", "pickle", "safetensors", "npz")
PathLike = str | os.PathLike[str]


@dataclass
class Transfer:
    """What was moved.

    Attributes:
        source: The file that was read.
        destination: The file that was written.
        kind: Its container.
        tensors: Number of tensors.
        values: Number of values in them.
        notes: What was changed or left out.
    """

    source: ContainerInfo
    destination: Path
    kind: str
    tensors: int
    values: int
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "source": self.source.to_json(),
            "destination": str(self.destination),
            "kind": self.kind,
            "tensors": self.tensors,
            "values": self.values,
            "notes": list(self.notes),
        }


def pt2jt(
    source: PathLike,
    destination: PathLike,
    *,
    overwrite: bool = False,
    rescue: bool = False,
    state: str | None = None,
) -> Transfer:
    """Turns a PyTorch checkpoint into one that plain ``jittor.load`` reads.

    Nesting is kept: a file with ``{"state_dict": ..., "meta": ...}`` gives the same dictionary,
    with text and numbers as they were. float16, float32, float64, integers, bool and 0-d tensors
    keep every byte. NumPy, and so Jittor's pickle, has no bfloat16: it is widened to float32,
    which is exact, and noted.

    Args:
        source: .pth, .pt, .bin (any PyTorch version), TorchScript, .safetensors, or a plain pickle.
        destination: .pkl (Jittor) or .safetensors (one flat state: wrappers are peeled off).
        overwrite: Whether ``destination`` may be replaced.
        rescue: See :func:`unidet.weights_convert.read_container`.
        state: Take only this one of several states; see :func:`unidet.weights_convert.find_state`.

    Raises:
        CheckpointError: a damaged or foreign source, or an unsuitable destination.
        UserError: the destination exists.
        RunFailedError: the disk refused the write.
    """
    return _move(source, destination, _TORCH, ("jittor", "safetensors"), overwrite, rescue, state)


def jt2pt(
    source: PathLike,
    destination: PathLike,
    *,
    overwrite: bool = False,
    rescue: bool = False,
    state: str | None = None,
) -> Transfer:
    """Turns a Jittor checkpoint into one that ``torch.load(weights_only=True)`` reads.

    See :func:`pt2jt`; the other way round.

    Args:
        source: .pkl of ``jittor.save``, or .safetensors.
        destination: .pth, .pt, .bin (PyTorch's zip container) or .safetensors.
        overwrite: Whether ``destination`` may be replaced.
        rescue: See :func:`unidet.weights_convert.read_container`.
        state: Take only this one of several states; see :func:`unidet.weights_convert.find_state`.

    Raises:
        CheckpointError: a damaged or foreign source, or an unsuitable destination.
        UserError: the destination exists.
        RunFailedError: the disk refused the write.
    """
    return _move(
        source, destination, _JITTOR, ("torch_zip", "safetensors"), overwrite, rescue, state
    )


def _move(
    source: PathLike,
    destination: PathLike,
    readable: tuple[str, ...],
    writable: tuple[str, ...],
    overwrite: bool,
    rescue: bool,
    state: str | None,
) -> Transfer:
    kind = container_for(destination)
    if kind not in writable:
        names = {"jittor": ".pkl", "torch_zip": ".pth, .pt or .bin", "safetensors": ".safetensors"}
        raise CheckpointError(
            f"Invalid destination {destination}. Expected a name that ends in "
            f"{' or '.join(names[item] for item in writable)}."
        )
    tree, info = read_container(source, rescue=rescue)
    if info.kind not in readable:
        other = "jt2pt" if info.kind == "jittor" else "pt2jt"
        raise CheckpointError(
            f"Invalid source {source}. It is a {info.title}: the command for it is {other}."
        )
    notes = list(info.notes)
    arrays: dict[str, np.ndarray] = dict(tensors(tree))
    if not arrays:
        raise CheckpointError(f"Invalid source {source}. Expected tensors. Received none.")
    if state is not None or kind == "safetensors":
        arrays = _flat(tree, str(source), notes, state)
        tree = dict(arrays)
    if kind == "safetensors":
        write_safetensors(destination, arrays, metadata=info.metadata, overwrite=overwrite)
    else:
        write = write_jittor if kind == "jittor" else write_torch
        write(destination, tree, metadata=info.metadata, overwrite=overwrite)
    values = sum(array.size for array in arrays.values())
    return Transfer(info, Path(destination), kind, len(arrays), values, notes)


def _flat(
    tree: dict[str, Any], source: str, notes: list[str], wanted: str | None
) -> dict[str, np.ndarray]:
    state = find_state(tree, source=source, wanted=wanted)
    if state.wrapper:
        notes.append(f"peeled off: {'.'.join(state.wrapper)}")
    notes += state.notes
    if state.extras:
        notes.append(f"left out, not part of the weights: {', '.join(map(str, state.extras))}")
    if wanted is not None:
        return state.arrays
    return {state.names[name]: array for name, array in state.arrays.items()}


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and bytes: equal arrays, and only those, agree."""
    whole = np.asarray(array, order="C")
    content = hashlib.sha256(f"{whole.dtype.str}{whole.shape}".encode())
    content.update(whole.tobytes())
    return content.hexdigest()
