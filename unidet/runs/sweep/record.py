"""The folder of a sweep: whose it is, what is done, and that one process at a time works in it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unidet.config import Config, from_mapping, resolve
from unidet.engine.resume import changes
from unidet.engine.run_folder import RunFolder
from unidet.errors import UserError
from unidet.files.outputs import make_parent
from unidet.runs.record import Record, read_content
from unidet.runs.steps import Step, resumable
from unidet.runs.sweep.grid import SweepRun, Version, versions_of

FINISHED, FAILED, INTERRUPTED = "finished", "failed", "interrupted"


class SweepRecord(Record):
    """The file ``record.json`` of a sweep.

    Args:
        root: folder of the sweep.
        content: ``config``, ``grid``, ``repeat``, ``backend``, and ``runs``: name of a run to its
            status.
    """

    def __init__(self, root: Path, content: dict[str, Any]) -> None:
        super().__init__(_path(root), content, content["runs"])
        self.config: Config = from_mapping(content["config"], str(self.path))
        self.versions: list[Version] = versions_of(self.config, content["grid"], content["repeat"])

    @property
    def backend(self) -> str:
        """Framework that trains."""
        return str(self.content["backend"])

    def folder(self, run: str) -> RunFolder:
        """Where a run lies."""
        return RunFolder(self.root / run)

    def status(self, run: str) -> str:
        """What has become of a run: finished, failed or interrupted; empty before it begins."""
        folder = self.folder(run)
        told = str(self.entries.get(run, {}).get("status", ""))
        if told == FINISHED and not folder.last.is_file():
            told = ""
        return told if folder.root.is_dir() else ""

    def reason(self, run: str) -> str:
        """Why a run has failed."""
        return str(self.entries.get(run, {}).get("reason", ""))

    def state(self, step: Step | SweepRun) -> str:
        """What will become of a run, in words; empty where it is finished."""
        status = self.status(step.name)
        if status == FINISHED:
            return ""
        if resumable(self.root / step.name):
            return f"goes on, {status}"
        return f"starts again, {status}" if status else "starts"

    def begin(self, step: Step, behind: Sequence[str]) -> None:
        """Enters a run as interrupted, the state in which a kill leaves it."""
        self._enter(step.name, INTERRUPTED)

    def end(self, step: Step, failure: str, seconds: float) -> None:
        """Enters how a run has ended."""
        self._enter(step.name, FAILED if failure else FINISHED, failure)

    def _enter(self, run: str, status: str, reason: str = "") -> None:
        self.entries[run] = {"status": status, **({"reason": reason} if reason else {})}
        self.write()

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keeps other sweeps out of the folder; gives a file that child processes keep open.

        Raises:
            UserError: another process works in the folder.
        """
        with make_parent(self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"Invalid value for `--work-dir`. Expected a folder in which nothing runs. "
                    f"Received {self.root}, in which another sweep trains."
                ) from None
            yield file.fileno()


def _path(root: Path) -> Path:
    return root / "record.json"


def read_record(root: Path) -> SweepRecord:
    """The record of a sweep.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = _path(root)
    if not path.is_file():
        raise UserError(f"Sweep not found: {path}. Expected the folder of a sweep.")
    keys = {"config", "grid", "repeat", "backend", "runs"}
    expected = "one that a sweep wrote"
    content = read_content(path, lambda c: isinstance(c, dict) and keys <= c.keys(), expected)
    return SweepRecord(root, content)


def open_record(
    root: Path, config: Config, grid: Mapping[str, Any], *, repeat: int, backend: str
) -> SweepRecord:
    """The record of a new sweep, or of the same one begun earlier. Writes nothing.

    More repeats than earlier are added to those; fewer leave them as they are.

    Raises:
        UserError: the folder holds another sweep or something else; says what differs.
    """
    content = {
        "config": resolve(config),
        "grid": dict(grid),
        "repeat": repeat,
        "backend": backend,
        "runs": {},
    }
    if _path(root).is_file():
        earlier = read_record(root)
        difference = _difference(earlier, content)
        if difference:
            raise UserError(
                f"Invalid value for `--work-dir`. Expected a new folder, or that of this sweep. "
                f"Received {root}, a sweep with {difference}."
            )
        content["runs"] = earlier.content["runs"]
        content["repeat"] = max(repeat, earlier.content["repeat"])
    elif root.is_dir() and any(entry.name != ".lock" for entry in root.iterdir()):
        raise UserError(
            f"Invalid value for `--work-dir`. Expected a new folder, or that of this sweep. "
            f"Received {root}, which holds something else."
        )
    return SweepRecord(root, content)


def _difference(earlier: SweepRecord, content: Mapping[str, Any]) -> str:
    """How another sweep differs from this one, in words; empty where they are the same."""
    if earlier.backend != content["backend"]:
        return f"--backend {earlier.backend}, now {content['backend']}"
    before, after = earlier.content["grid"], content["grid"]
    if list(before.items()) != list(after.items()):
        return f"the grid {_grid(before)}, now {_grid(after)}"
    found = changes(earlier.content["config"], from_mapping(content["config"]))
    return ", ".join(f"{key} {old!r}, now {new!r}" for key, (old, new) in list(found.items())[:3])


def _grid(grid: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={json.dumps(values)}" for key, values in grid.items()) or "(none)"
