"""Saving a run so that it can be killed at any moment and resumed on either backend.

``state/`` holds one folder for each generation: weights, optimizer moments, moving average and
progress, in framework-free files. A generation is written under a temporary name, renamed, and
becomes the valid one when the small file ``state/current`` is replaced by one that names it. That
single rename is the moment of saving: before it the earlier generation counts, after it the new
one, and both are whole. ``last.safetensors`` is a link to the weights of the valid generation.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import unidet
from unidet.checkpoint import load_checkpoint, read_arrays, save_checkpoint, write_arrays
from unidet.engine.progress import Progress
from unidet.engine.run_folder import RunFolder, saving, write_json, write_text
from unidet.errors import RunFailedError, UserError

STATE_VERSION = 1
CURRENT = "current"
WEIGHTS, OPTIMIZER, EMA, PROGRESS = (
    "weights.safetensors",
    "optimizer.safetensors",
    "ema.safetensors",
    "progress.json",
)


@dataclass
class Saved:
    """A training state as read from disk.

    Attributes:
        weights: of the model, by name.
        optimizer: moments, by name.
        ema: moving average of the weights, empty without one.
        progress: where the run stood.
        config: the run's resolved config.
        backend: framework that wrote it.
        class_names: of the model, where it has any.
    """

    weights: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    progress: Progress
    config: dict[str, Any]
    backend: str = ""
    ema: dict[str, np.ndarray] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


def save_state(
    folder: RunFolder,
    model: Any,
    saved: Saved,
    *,
    state_dir: Path | None = None,
) -> None:
    """Writes a generation and makes it the valid one.

    Args:
        folder: the run's folder.
        model: gives what a checkpoint says beside the weights.
        saved: what to write.
        state_dir: ``folder.state`` by default; another one leaves ``last.safetensors`` alone.

    Raises:
        RunFailedError: the disk is full or refuses; the earlier generation is intact and nothing
            half-written is left.
    """
    target = state_dir or folder.state
    name = f"step-{saved.progress.step:08d}-{os.urandom(3).hex()}"
    temporary, final = target / f".{name}.tmp", target / name
    try:
        with saving(target):
            temporary.mkdir(parents=True)
            _write_generation(temporary, model, saved)
            os.rename(temporary, final)
            write_text(target / CURRENT, name + "\n")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if _current_name(target) != name:
            shutil.rmtree(final, ignore_errors=True)
        raise
    if target == folder.state:
        publish(folder)
    for other in target.iterdir():
        if other.is_dir() and other.name != name:
            shutil.rmtree(other, ignore_errors=True)


def _write_generation(target: Path, model: Any, saved: Saved) -> None:
    source = {"step": saved.progress.step, "epoch": saved.progress.epoch, "backend": saved.backend}
    save_checkpoint(target / WEIGHTS, model, arrays=saved.weights, source=source)
    write_arrays(target / OPTIMIZER, saved.optimizer, {"format_version": STATE_VERSION})
    if saved.ema:
        save_checkpoint(target / EMA, model, arrays=saved.ema, source={**source, "ema": True})
    content = {
        "format_version": STATE_VERSION,
        "unidet_version": unidet.__version__,
        "backend": saved.backend,
        "progress": saved.progress.to_dict(),
        "config": saved.config,
    }
    write_json(target / PROGRESS, content)


def publish(folder: RunFolder) -> None:
    """Makes ``last.safetensors`` (and ``last_ema.safetensors``) those of the valid generation."""
    name = _current_name(folder.state)
    if name is None:
        return
    for source, target in (
        (folder.state / name / WEIGHTS, folder.last),
        (folder.state / name / EMA, folder.root / "last_ema.safetensors"),
    ):
        if source.exists():
            link(source, target)


def link(source: Path, target: Path) -> None:
    """Makes ``target`` the same file as ``source``, or a copy where links are not to be had.

    Raises:
        RunFailedError: the system refused the write.
    """
    with saving(target):
        _link(source, target)


def _link(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    temporary = target.with_name(f".{target.name}.link.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            # Not every file system has hard links.
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _current_name(state_dir: Path) -> str | None:
    try:
        return (state_dir / CURRENT).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def find_state(path: str | Path) -> Path:
    """The valid generation of a run.

    Args:
        path: the run's folder, its ``state`` or ``diverged`` folder, or a checkpoint in the run's
            folder.

    Raises:
        UserError: there is none.
    """
    place = Path(path)
    for candidate in (place / "state", place, place.parent / "state"):
        name = _current_name(candidate)
        if name is not None and (candidate / name).is_dir():
            return candidate / name
    raise UserError(
        f"Invalid value for `resume`. Expected the folder of a run that has saved its state. "
        f"Received {path}, which holds none. Start again with --overwrite."
    )


def load_state(generation: Path) -> Saved:
    """Reads a generation.

    Raises:
        UserError: a file is missing or damaged; names it.
    """
    path = generation / PROGRESS
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["format_version"]
        progress, config, backend = content["progress"], content["config"], content["backend"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"Invalid training state {path}. Expected JSON. Received: {error}."
        ) from error
    if version > STATE_VERSION:
        raise UserError(
            f"Invalid training state {path}. Expected format {STATE_VERSION} or older. Received "
            f"format {version}: a newer unidet wrote it."
        )
    ema = generation / EMA
    weights = load_checkpoint(generation / WEIGHTS)
    return Saved(
        weights=weights.arrays,
        class_names=weights.class_names,
        optimizer=read_arrays(generation / OPTIMIZER)[0],
        progress=Progress.from_dict(progress, str(path)),
        config=config,
        backend=backend,
        ema=load_checkpoint(ema).arrays if ema.exists() else {},
    )


def save_best(
    folder: RunFolder, model: Any, arrays: Mapping[str, np.ndarray], source: Mapping[str, Any]
) -> None:
    """Replaces ``best.safetensors``.

    Raises:
        RunFailedError: the write failed; the earlier file is intact.
    """
    try:
        save_checkpoint(folder.best, model, arrays=arrays, source=source)
    except UserError as error:
        raise RunFailedError(f"Could not write {folder.best}: {error}") from error


def inherit_best(folder: RunFolder, generation: Path, progress: Progress) -> None:
    """Takes the best checkpoint along when a run goes on in another folder.

    Where the other run holds a later one, which this run has not reached, the search for the
    best begins anew.

    Args:
        folder: of the run that goes on.
        generation: state of the other run from which it goes on.
        progress: of that state; loses its best value where its weights are gone.
    """
    origin = RunFolder(generation.parent.parent)
    if progress.best_step is None:
        return
    try:
        kept = load_checkpoint(origin.best).source or {}
    except UserError:
        kept = {}
    if kept.get("step") != progress.best_step:
        progress.best = progress.best_step = None
        return
    link(origin.best, folder.best)
    if origin.detections.exists():
        link(origin.detections, folder.detections)
