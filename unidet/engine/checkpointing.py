"""Saving a run so that it can be killed at any moment and resumed on either backend.

``state/`` holds one folder for each generation: weights, optimizer moments, moving average and
progress, in framework-free files. A generation is written under a temporary name, renamed, and
becomes the valid one when the small file ``state/current`` is replaced by one that names it. That
single rename is the moment of saving: before it the earlier generation counts, after it the new
one, and both are whole. ``last.safetensors`` is a link to the weights of the valid generation.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import unidet
from unidet.checkpoints.native import load_checkpoint, save_checkpoint, write_arrays
from unidet.engine.progress import Progress
from unidet.engine.run_folder import RunFolder, saving, write_text
from unidet.engine.saved_state import (
    COPY,
    CURRENT,
    EMA,
    OPTIMIZER,
    PROGRESS,
    STATE_VERSION,
    WEIGHTS,
    Saved,
    current_name,
    find_state,
    generations,
    load_state,
    progress_text,
    step_of,
)
from unidet.errors import RunFailedError, UserError

__all__ = [
    "PROGRESS",
    "Saved",
    "WEIGHTS",
    "check_best",
    "find_state",
    "inherit_best",
    "link",
    "load_state",
    "publish",
    "save_best",
    "save_state",
    "settle",
]


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
    name = f"step-{saved.progress.step:08d}-{secrets.token_hex(3)}"
    temporary, final = target / f".{name}.tmp", target / name
    try:
        with saving(target):
            temporary.mkdir(parents=True)
            _write_generation(temporary, model, saved)
            os.rename(temporary, final)
            write_text(target / CURRENT, name + "\n")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if current_name(target) != name:
            shutil.rmtree(final, ignore_errors=True)
        raise
    if target == folder.state:
        publish(folder)
    _remove_older(target, saved.progress.step)


def _remove_older(target: Path, step: int) -> None:
    """Removes the generations of earlier steps, but never the valid one.

    Which that is, is read anew each time: another process may have saved meanwhile.
    """
    for other in generations(target):
        if (step_of(other) or 0) <= step and other != current_name(target):
            shutil.rmtree(target / other, ignore_errors=True)


def settle(folder: RunFolder, name: str) -> None:
    """Makes a generation the valid one and removes what a killed run has left beside it.

    A later one that ``current`` named, and that turned out damaged, stays until the run has
    passed it.

    Args:
        folder: of the run, which nobody else uses.
        name: of the generation from which the run goes on.

    Raises:
        RunFailedError: the system refused the write.
    """
    before = current_name(folder.state)
    if before != name:
        write_text(folder.state / CURRENT, name + "\n")
    for other in generations(folder.state):
        if other not in (name, before):
            shutil.rmtree(folder.state / other, ignore_errors=True)


def _write_generation(target: Path, model: Any, saved: Saved) -> None:
    source = {"step": saved.progress.step, "epoch": saved.progress.epoch, "backend": saved.backend}
    content = {
        "format_version": STATE_VERSION,
        "unidet_version": unidet.__version__,
        "backend": saved.backend,
        "ema": bool(saved.ema),
        "progress": saved.progress.to_dict(),
        "config": saved.config,
    }
    save_checkpoint(
        target / WEIGHTS, model, arrays=saved.weights, source=source, more={COPY: content}
    )
    write_arrays(target / OPTIMIZER, saved.optimizer, {"format_version": STATE_VERSION})
    if saved.ema:
        save_checkpoint(target / EMA, model, arrays=saved.ema, source={**source, "ema": True})
    write_text(target / PROGRESS, progress_text(content))


def publish(folder: RunFolder) -> None:
    """Makes ``last.safetensors`` (and ``last_ema.safetensors``) those of the valid generation."""
    name = current_name(folder.state)
    while name is not None:
        try:
            _publish(folder, folder.state / name)
            return
        except RunFailedError:
            # Another process has saved meanwhile, and removed this generation.
            before, name = name, current_name(folder.state)
            if name == before:
                raise


def _publish(folder: RunFolder, generation: Path) -> None:
    for source, target in (
        (generation / WEIGHTS, folder.last),
        (generation / EMA, folder.root / "last_ema.safetensors"),
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
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            os.link(source, temporary)
        except FileNotFoundError:
            raise
        except OSError:
            # Not every file system has hard links.
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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


def check_best(folder: RunFolder, progress: Progress) -> list[str]:
    """Begins the search for the best anew where ``best.safetensors`` is damaged.

    Args:
        folder: of a run that goes on.
        progress: of its state; loses its best value then.

    Returns:
        A line that says so, or nothing.
    """
    if progress.best_step is None or not folder.best.exists():
        return []
    try:
        load_checkpoint(folder.best)
    except UserError as error:
        progress.best = progress.best_step = None
        return [f"the search for the best weights begins anew: {error}"]
    return []
