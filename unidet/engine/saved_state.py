"""Finds and reads the saved state of a run, and recovers what it can of a damaged one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.checkpoints.native import load_checkpoint, parse_checkpoint, read_arrays
from unidet.engine.progress import Progress
from unidet.engine.run_folder import RunFolder
from unidet.errors import UserError
from unidet.files.numbers import is_id
from unidet.files.reading import parse_json, read_bytes, read_text
from unidet.files.shown import printable, shown

STATE_VERSION = 1
CURRENT = "current"
WEIGHTS, OPTIMIZER, EMA, PROGRESS = (
    "weights.safetensors",
    "optimizer.safetensors",
    "ema.safetensors",
    "progress.json",
)
#: Entry in the metadata of the weights with a second copy of ``progress.json``.
COPY = "state"
_NAME = re.compile(r"step-([0-9]{8,18})-[0-9a-f]{6}")


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
        name: of the generation.
        notes: what was damaged and what took its place, one line each.
    """

    weights: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    progress: Progress
    config: dict[str, Any]
    backend: str = ""
    ema: dict[str, np.ndarray] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    name: str = ""
    notes: list[str] = field(default_factory=list)


def step_of(name: str) -> int | None:
    """Step of a generation's name; None for the name of something else."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def generations(state_dir: Path) -> list[str]:
    """Names of all generations, the latest step first."""
    try:
        names = [entry.name for entry in state_dir.iterdir() if entry.is_dir()]
    except OSError:
        return []
    known = [name for name in names if _NAME.fullmatch(name)]
    return sorted(known, key=lambda name: (step_of(name) or 0, name), reverse=True)


def current_name(state_dir: Path) -> str | None:
    """The generation that ``current`` names; None where it names none that is there."""
    try:
        name = read_bytes(state_dir / CURRENT).decode("ascii").strip()
    except (UserError, UnicodeDecodeError):
        return None
    return name if _NAME.fullmatch(name) and (state_dir / name).is_dir() else None


def find_state(path: str | Path) -> Path:
    """The valid generation of a run.

    Where ``current`` is damaged or missing, the latest generation that is whole.

    Args:
        path: the run's folder, its ``state`` or ``diverged`` folder, or a checkpoint in the run's
            folder.

    Raises:
        UserError: there is none.
    """
    place = Path(path)
    for candidate in (place / "state", place, place.parent / "state"):
        names = generations(candidate)
        if not names:
            continue
        name = current_name(candidate)
        if name is None:
            name = next((name for name in names if _is_whole(candidate / name)), names[0])
        return candidate / name
    raise UserError(
        f"Invalid value for `resume`. Expected the folder of a run that has saved its state. "
        f"Received {path}, which holds none. Start again with --overwrite."
    )


def open_state(path: str | Path) -> tuple[Path, Saved]:
    """The state from which a run goes on: the valid one, or an earlier one where that is damaged.

    Args:
        path: as in :func:`find_state`.

    Returns:
        The generation's folder and its content, whose ``notes`` say what was damaged.

    Raises:
        UserError: there is none, or none is whole; names the damaged file, and the checkpoints
            that are still whole.
    """
    valid = find_state(path)
    notes = []
    if current_name(valid.parent) is None:
        notes.append(
            f"{valid.parent / CURRENT} is damaged or missing: the latest whole state is taken, "
            f"{valid.name}"
        )
    try:
        saved = load_state(valid)
    except UserError as error:
        reason = str(error)
        for name in generations(valid.parent):
            if name != valid.name and _is_whole(valid.parent / name):
                saved = load_state(valid.parent / name)
                notes.append(f"{reason} An earlier state is taken in its place: {name}")
                break
        else:
            raise UserError(f"{reason} {_what_is_left(valid)}") from error
    saved.notes[:0] = notes
    return valid.parent / saved.name, saved


def load_state(generation: Path) -> Saved:
    """Reads a generation.

    A damaged ``progress.json`` is made up for by the copy in the metadata of the weights.

    Raises:
        UserError: a file is missing or damaged; names it.
    """
    weights_file, path = generation / WEIGHTS, generation / PROGRESS
    arrays, metadata = read_arrays(weights_file)
    weights = parse_checkpoint(arrays, metadata, source=weights_file)
    notes = []
    content = metadata.get(COPY)
    if content is None:
        # Of an earlier version, which kept no copy.
        content = _read_progress(path)
    else:
        path, small = weights_file, path
        try:
            same = read_text(small, "Training state") == progress_text(content)
        except UserError:
            same = False
        if not same:
            notes.append(f"{small} is damaged or was changed: its copy in {WEIGHTS} is taken")
    progress = _checked(content, path)
    ema = generation / EMA
    has_ema = ema.exists() or bool(metadata.get(COPY) and content.get("ema"))
    return Saved(
        weights=weights.arrays,
        class_names=weights.class_names,
        optimizer=read_arrays(generation / OPTIMIZER)[0],
        progress=progress,
        config=content["config"],
        backend=content["backend"],
        ema=load_checkpoint(ema).arrays if has_ema else {},
        name=generation.name,
        notes=notes,
    )


def progress_text(content: Any) -> str:
    """The text of ``progress.json``."""
    return json.dumps(content, indent=2) + "\n"


def _read_progress(path: Path) -> Any:
    try:
        return parse_json(read_text(path, "Training state"), path, "Training state")
    except UserError as error:
        raise UserError(f"Invalid training state {path}. {error}.") from error


def _checked(content: Any, path: Path) -> Progress:
    """The progress that a state's facts hold, after all of them were looked at."""
    known: Mapping[str, type] = {"progress": dict, "config": dict, "backend": str}
    if not isinstance(content, dict) or not is_id(content.get("format_version")):
        raise UserError(
            f"Invalid training state {path}. Expected an object with format_version. "
            f"Received {shown(content)}."
        )
    version = content["format_version"]
    if version > STATE_VERSION:
        raise UserError(
            f"Invalid training state {path}. Expected format {STATE_VERSION} or older. Received "
            f"format {version}: a newer unidet wrote it."
        )
    for key, kind in known.items():
        if not isinstance(content.get(key), kind):
            what = "text" if kind is str else "an object"
            raise UserError(
                f"Invalid training state {path}. Expected {what} as `{key}`. "
                f"Received {shown(content.get(key))}."
            )
    return Progress.from_dict(content["progress"], str(path))


def _is_whole(generation: Path) -> bool:
    try:
        load_state(generation)
    except UserError:
        return False
    return True


def _what_is_left(generation: Path) -> str:
    """Which checkpoints beside a damaged state can be read, in a sentence."""
    root = generation.parent.parent
    folder = RunFolder(root)
    whole = []
    for path in (
        folder.best, folder.final, folder.last, root / "last_ema.safetensors",
        generation / WEIGHTS, generation / EMA,
    ):  # fmt: skip
        try:
            load_checkpoint(path)
        except UserError:
            continue
        whole.append(printable(str(path)))
    if not whole:
        return "No checkpoint beside it is whole; start again with --overwrite."
    return f"Still whole: {', '.join(whole)}; a new run can start from it with train.weights."
