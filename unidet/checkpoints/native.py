"""The native checkpoint: one `.safetensors` file with weights and all that rebuilds the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import unidet
from unidet.errors import UserError
from unidet.files.shown import printable, shown
from unidet.weights_convert import (
    CheckpointError,
    detect_container,
    read_container,
    write_safetensors,
)

FORMAT_VERSION = 1
_KEY = "unidet"


@dataclass(frozen=True)
class Checkpoint:
    """What a native checkpoint holds.

    Attributes:
        arrays: weights and buffers under the model's own names.
        model: the model's config; ``unidet.models.build_model`` rebuilds the model from it.
        class_names: name of each label.
        preprocess: arguments of :class:`unidet.data.preprocess.Preprocess`.
        source: where the weights come from: a run, or a file that was imported.
    """

    arrays: dict[str, np.ndarray]
    model: dict[str, Any]
    class_names: tuple[str, ...] = ()
    preprocess: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = True,
) -> None:
    """Writes a safetensors file that appears whole or not at all.

    Args:
        path: destination.
        arrays: written in C order under their names; 0-d arrays stay 0-d.
        metadata: JSON values, kept under the key ``unidet``.
        overwrite: an earlier file is replaced; it stays intact when the write fails.

    Raises:
        UserError: the folder does not exist, or the file does and may not be replaced.
        RunFailedError: the disk is full or refuses the write.
    """
    content = json.dumps(metadata, ensure_ascii=False)
    write_safetensors(path, arrays, metadata={_KEY: content}, overwrite=overwrite)


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of a file of :func:`write_arrays`; no metadata gives an empty dict.

    Raises:
        UserError: no such file, or no whole safetensors file.
    """
    if Path(path).is_dir():
        found = next(
            (f for f in ("best", "last") if (Path(path) / f"{f}.safetensors").is_file()), ""
        )
        hint = f" Did you mean {Path(path) / found}.safetensors?" if found else ""
        raise UserError(f"Invalid checkpoint {path}. Expected a file. Received a folder.{hint}")
    if not Path(path).is_file():
        raise UserError(f"Checkpoint not found: {path}")
    kind = detect_container(path)
    if kind != "safetensors":
        raise CheckpointError(
            f"Invalid checkpoint {path}. Expected a .safetensors file of unidet. Received a file "
            f"of kind {kind}; `unidet convert import` reads others."
        )
    arrays, info = read_container(path)
    try:
        metadata = json.loads(info.metadata.get(_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Invalid checkpoint {path}. Its metadata is damaged.") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"Invalid checkpoint {path}. Its metadata is damaged.")
    return arrays, metadata


def save_checkpoint(
    path: str | Path,
    model: Any,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    source: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model's weights and everything that rebuilds it.

    Args:
        path: destination; an earlier file is replaced.
        model: a model of either backend.
        arrays: weights written in place of the model's own, such as their moving average.
        source: where the weights come from, in JSON values.
        more: see :func:`write_checkpoint`.

    Raises:
        RunFailedError: the disk is full or refuses the write; an earlier file is intact.
    """
    from unidet.backends import nn

    checkpoint = Checkpoint(
        dict(nn.state_arrays(model) if arrays is None else arrays),
        model.config,
        tuple(model.class_names or ()),
        model.preprocess.to_dict(),
        dict(source or {}),
    )
    write_checkpoint(path, checkpoint, overwrite=True, more=more)


def write_checkpoint(
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    overwrite: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Writes a native checkpoint; no model and no framework is needed.

    Args:
        path: destination.
        checkpoint: what to write.
        overwrite: an earlier file is replaced.
        more: further JSON values for the metadata, which :func:`read_arrays` gives back.

    Raises:
        UserError: the destination exists, or its folder does not.
        RunFailedError: the disk is full or refuses the write.
    """
    metadata = {
        **(more or {}),
        "format_version": FORMAT_VERSION,
        "unidet_version": unidet.__version__,
        "model": checkpoint.model,
        "class_names": list(checkpoint.class_names),
        "preprocess": checkpoint.preprocess,
        "source": checkpoint.source,
    }
    write_arrays(path, checkpoint.arrays, metadata, overwrite=overwrite)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a native checkpoint.

    Raises:
        UserError: no such file, damaged, or not written by unidet.
    """
    return parse_checkpoint(*read_arrays(path), source=path)


def parse_checkpoint(
    arrays: dict[str, np.ndarray], metadata: Mapping[str, Any], *, source: str | Path
) -> Checkpoint:
    """A checkpoint from its parts, checked.

    Args:
        arrays: weights by name.
        metadata: what ``write_checkpoint`` put beside them.
        source: name of the file, for messages.

    Raises:
        UserError: not unidet's, of a newer format, or damaged.
    """
    version, model = metadata.get("format_version"), metadata.get("model")
    if version is None or model is None:
        raise CheckpointError(
            f"Invalid checkpoint {source}. Expected one that unidet has written. Received a "
            f"safetensors file without unidet's metadata; `unidet convert import` reads others."
        )
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"Invalid checkpoint {source}. Expected format {FORMAT_VERSION} or older. "
            f"Received format {shown(version)}: a newer unidet wrote it."
        )
    names = metadata.get("class_names") or []
    preprocess, origin = metadata.get("preprocess") or {}, metadata.get("source") or {}
    whole = (
        isinstance(model, dict)
        and isinstance(model.get("name"), str)
        and isinstance(model.get("arguments", {}), dict)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(preprocess, dict)
        and isinstance(origin, dict)
    )
    if not whole:
        raise CheckpointError(f"Invalid checkpoint {source}. Its metadata is damaged.")
    return Checkpoint(arrays, model, tuple(names), preprocess, origin)


def check_finite(arrays: Mapping[str, np.ndarray], source: str | Path) -> None:
    """Refuses weights that hold NaN or infinity.

    Args:
        arrays: by name.
        source: name of the file, for the message.

    Raises:
        UserError: names the first such tensor.
    """
    found = non_finite(arrays)
    if found is not None:
        raise CheckpointError(
            f"Invalid checkpoint {source}. Expected finite weights. Received {found}. The run that "
            "wrote it had diverged; allow_non_finite=True of Detector, or --allow-non-finite of "
            "predict, eval, proposals and export, lets them through."
        )


def non_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The first tensor that holds NaN or infinity, in words; None where all are finite."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fc":
            continue
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            return f"{bad} of {array.size} numbers that are NaN or infinite in {printable(name)}"
    return None
