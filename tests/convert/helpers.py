"""States, files and comparisons shared by the checkpoint tests."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from unidet.weights_convert import digest, write_torch


def arrays() -> dict[str, np.ndarray]:
    """One array of each dtype and layout that checkpoints hold."""
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "conv.bias": np.array([0.0, -0.0, np.nan, np.inf], np.float32),
        "half": rng.normal(size=(5,)).astype(np.float16),
        "double": rng.normal(size=(2, 3)),
        "count": np.array(7, np.int64),
        "mask": np.array([True, False]),
        "bytes": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "empty": np.zeros((0, 3), np.float32),
        "int": np.array([-1, 2**31 - 1], np.int32),
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Asserts the same names, and for each the same dtype, shape and bytes."""
    assert sorted(one) == sorted(other)
    different = [name for name in one if digest(one[name]) != digest(other[name])]
    assert not different


@functools.lru_cache(maxsize=1)
def _golden_module(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("golden_weights", folder / "weights.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=2)
def golden(data: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """State, metadata and the content of the published file of one peer."""
    module = _golden_module(data / "golden")
    folder = data / "golden" / "given" / name
    meta = json.loads((folder / "meta.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    state = module.golden_state(manifest, meta["seed"], meta.get("scale"))
    assert module.checksum(state) == meta["weights_crc32"]
    return state, meta, module.published(state, meta.get("container"))


def golden_tensors(data: Path, name: str, keys: list[str]) -> dict[str, np.ndarray]:
    """A few tensors of a peer."""
    module = _golden_module(data / "golden")
    folder = data / "golden" / "given" / name
    meta = json.loads((folder / "meta.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    scale = {key: value for key, value in meta.get("scale", {}).items() if key in keys}
    return module.golden_state({key: manifest[key] for key in keys}, meta["seed"], scale)


def hollow(data: Path, name: str) -> dict[str, np.ndarray]:
    """Names and shapes of a peer's file over a single value each: no memory, no time."""
    manifest = json.loads((data / "golden" / "given" / name / "manifest.json").read_text())
    return {
        key: np.zeros((), np.int64)
        if key.endswith("num_batches_tracked")
        else np.broadcast_to(np.float32(i), shape)
        for i, (key, shape) in enumerate(manifest.items())
    }


def save_as_torch_does(path: Path, tree: dict[str, Any], *, legacy: bool = False) -> None:
    """``torch.save`` where torch is installed, our own writer otherwise."""
    try:
        import torch
    except ImportError:
        write_torch(path, tree)
        return

    def tensor(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tensor(item) for key, item in value.items()}
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value

    torch.save(tensor(tree), path, _use_new_zipfile_serialization=not legacy)
