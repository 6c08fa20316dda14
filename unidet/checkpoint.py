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
from unidet.weights_convert.atomic import atomic_path

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
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Writes a safetensors file that appears whole or not at all.

    Args:
        path: destination; an earlier file is replaced.
        arrays: written in C order under their names.
        metadata: JSON values, kept under the key ``unidet``.

    Raises:
        UserError: the folder does not exist.
        RunFailedError: the disk is full or refuses the write; an earlier file is intact.
    """
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # Serialised first and written by Python, because the library hides the system's error number.
    content = save(whole, metadata={_KEY: json.dumps(metadata), "format": "pt"})
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of a file of :func:`write_arrays`; no metadata gives an empty dict.

    Raises:
        UserError: no such file, or no whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"Checkpoint not found: {path}")
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"Invalid checkpoint {path}. Expected a whole .safetensors file. Received: {error}."
        ) from error
    return arrays, metadata


def save_checkpoint(
    path: str | Path,
    model: Any,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    source: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model's weights and everything that rebuilds it.

    Args:
        path: destination; an earlier file is replaced.
        model: a model of either backend.
        arrays: weights written in place of the model's own, such as their moving average.
        source: where the weights come from, in JSON values.

    Raises:
        RunFailedError: the disk is full or refuses the write; an earlier file is intact.
    """
    from unidet.backends import nn

    names = getattr(model, "class_names", None)
    metadata = {
        "format_version": FORMAT_VERSION,
        "unidet_version": unidet.__version__,
        "model": model.config,
        "class_names": list(names or ()),
        "preprocess": model.preprocess.to_dict(),
        "source": dict(source or {}),
    }
    write_arrays(path, nn.state_arrays(model) if arrays is None else arrays, metadata)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a native checkpoint.

    Raises:
        UserError: no such file, damaged, or not written by unidet.
    """
    arrays, metadata = read_arrays(path)
    version = metadata.get("format_version")
    if version is None or "model" not in metadata:
        raise UserError(
            f"Invalid checkpoint {path}. Expected one that unidet has written. Received a "
            f"safetensors file without unidet's metadata; `unidet convert import` reads others."
        )
    if version > FORMAT_VERSION:
        raise UserError(
            f"Invalid checkpoint {path}. Expected format {FORMAT_VERSION} or older. "
            f"Received format {version}: a newer unidet wrote it."
        )
    return Checkpoint(
        arrays,
        metadata["model"],
        tuple(metadata.get("class_names", ())),
        metadata.get("preprocess", {}),
        metadata.get("source", {}),
    )
