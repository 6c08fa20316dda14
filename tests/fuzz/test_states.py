"""Fuzzing of what a run has left: read, recovered or refused in one line, never a wrong state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated, mutated_bytes
from unidet.checkpoints.native import write_arrays
from unidet.config import dump_config, from_mapping
from unidet.engine.progress import Progress
from unidet.engine.run_folder import RunFolder, keep_config
from unidet.engine.run_log import keep_until
from unidet.engine.saved_state import (
    COPY,
    CURRENT,
    OPTIMIZER,
    PROGRESS,
    WEIGHTS,
    open_state,
    progress_text,
)
from unidet.evaluation.run_log import read_metrics

NAME = "step-00000004-abcdef"
PROGRESS_OF_RUN = Progress(
    epoch=1, step=4, loss_sum=1.5, loss_count=2, epoch_losses=[2.0], window={"loss": 3.0},
    window_count=1, best=0.5, best_step=4, evaluated_step=4, metrics={"AP": 0.5},
    plateau={"scale": 0.5, "best": None, "bad": 1},
    watch={"smooth": 1.0, "lowest": None, "count": 4}, scaling={"scale": 2.0, "steps": 1.0},
)  # fmt: skip
CONTENT: dict[str, Any] = {
    "format_version": 1,
    "unidet_version": "0",
    "backend": "torch",
    "ema": False,
    "progress": PROGRESS_OF_RUN.to_dict(),
    "config": {"model": {"name": "toy"}},
}
WEIGHTS_OF_RUN = {"a.weight": np.arange(6, dtype=np.float32), "n": np.array(4)}
METRICS = b"".join(
    json.dumps(row).encode() + b"\n"
    for row in (
        {"step": 1, "epoch": 1, "loss": 2.0, "lr": 0.1, "time": 0.5},
        {"step": 2, "epoch": 1, "eval": {"AP": 0.1}, "time": 0.5},
        {"step": 3, "epoch": 1, "loss": 1.0, "lr": 0.1, "time": 0.5},
    )
)


def _state(root: Path, *, copy: bool = True) -> Path:
    generation = root / "state" / NAME
    generation.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"format_version": 1, "model": {"name": "toy"}}
    if copy:
        metadata[COPY] = CONTENT
    write_arrays(generation / WEIGHTS, WEIGHTS_OF_RUN, metadata)
    write_arrays(generation / OPTIMIZER, {"step": np.array(4)}, {})
    (generation / PROGRESS).write_text(progress_text(CONTENT))
    (root / "state" / CURRENT).write_text(NAME + "\n")
    return generation


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    _state(root)
    return root


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("old")
    _state(root, copy=False)
    return root


def _tensors() -> tuple[bytes, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        generation = _state(Path(folder))
        return (generation / WEIGHTS).read_bytes(), (generation / OPTIMIZER).read_bytes()


WEIGHTS_BYTES, OPTIMIZER_BYTES = _tensors()


def _check(root: Path) -> None:
    """Whatever was damaged: the true state, or one line."""
    with bounded():
        _, saved = open_state(root)
        assert saved.progress == PROGRESS_OF_RUN
        for name, array in WEIGHTS_OF_RUN.items():
            np.testing.assert_array_equal(saved.weights[name], array)


@fuzz(mutated_bytes(WEIGHTS_BYTES, OPTIMIZER_BYTES))
def test_weights(case: bytes, whole: Path) -> None:
    path = whole / "state" / NAME / WEIGHTS
    path.write_bytes(case)
    _check(whole)
    path.write_bytes(WEIGHTS_BYTES)


@fuzz(mutated_bytes(OPTIMIZER_BYTES, WEIGHTS_BYTES))
def test_moments(case: bytes, whole: Path) -> None:
    path = whole / "state" / NAME / OPTIMIZER
    path.write_bytes(case)
    _check(whole)
    path.write_bytes(OPTIMIZER_BYTES)


@fuzz(
    st.sampled_from((f"{NAME}/{PROGRESS}", CURRENT)),
    mutated_bytes(progress_text(CONTENT).encode(), NAME.encode() + b"\n"),
)
def test_small_files_block_nothing(name: str, case: bytes, whole: Path) -> None:
    path = whole / "state" / name
    before = path.read_bytes()
    path.write_bytes(case)
    try:
        _, saved = open_state(whole)
        assert saved.progress == PROGRESS_OF_RUN
    finally:
        path.write_bytes(before)


# One change: copying values of depth 1,000 would exceed the limit of recursion.
@fuzz(mutated(CONTENT, changes=1))
def test_progress_of_earlier_versions(case: Any, old: Path) -> None:
    path = old / "state" / NAME / PROGRESS
    path.write_text(json.dumps(case))
    with bounded():
        open_state(old)


@fuzz(mutated_bytes(METRICS))
def test_metrics(case: bytes, whole: Path) -> None:
    folder = RunFolder(whole)
    folder.metrics.write_bytes(case)
    with bounded():
        read_metrics(whole)
    rows, _ = keep_until(folder, 2)
    assert all(row["step"] <= 2 for row in rows)
    assert keep_until(folder, 2) == (rows, "") or any(v != v for r in rows for v in r.values())
    folder.damaged_metrics.unlink(missing_ok=True)


CONFIG = dump_config(from_mapping({"model": {"name": "toy"}, "data": {"format": "scenes"}}))


@fuzz(mutated_bytes(CONFIG.encode()), quick=30, full=2000)
def test_config(case: bytes, whole: Path) -> None:
    folder = RunFolder(whole)
    folder.config.write_bytes(case)
    with bounded():
        keep_config(folder)
    kept = folder.config if folder.config.exists() else folder.damaged_config
    assert kept.read_bytes() == case
