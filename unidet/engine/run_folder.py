"""The folder of a run: which files it has and when it may be written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unidet.config import load_config
from unidet.engine.run_lock import LOCK
from unidet.errors import RunFailedError, UserError
from unidet.files.atomic import atomic_path
from unidet.files.outputs import check_output


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        root: the folder itself.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The fully resolved config."""
        return self.root / "config.yaml"

    @property
    def damaged_config(self) -> Path:
        """A config that could not be read when the run went on."""
        return self.root / "config.damaged.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: losses and evaluations."""
        return self.root / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What the run has said."""
        return self.root / "log.txt"

    @property
    def last(self) -> Path:
        """Weights of the latest saved step."""
        return self.root / "last.safetensors"

    @property
    def best(self) -> Path:
        """Weights of the best evaluation."""
        return self.root / "best.safetensors"

    @property
    def final(self) -> Path:
        """The best weights, once a run with ``train.load_best_at_end`` has ended."""
        return self.root / "final.safetensors"

    @property
    def evaluation(self) -> Path:
        """Metrics of the latest evaluation, with those of each class.

        Of the best one in a run with ``train.load_best_at_end``.
        """
        return self.root / "evaluation.json"

    @property
    def detections(self) -> Path:
        """Detections of the best evaluation in COCO result form."""
        return self.root / "detections.json"

    @property
    def state(self) -> Path:
        """Training state, see :mod:`unidet.engine.checkpointing`."""
        return self.root / "state"

    @property
    def damaged_metrics(self) -> Path:
        """Rows of ``metrics.jsonl`` that could not be read."""
        return self.root / "metrics.damaged"

    @property
    def diverged(self) -> Path:
        """State of a run just before the step that was its last."""
        return self.root / "diverged"

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there, generated data and the lock apart."""
        if not self.root.is_dir():
            return not self.root.exists()
        return all(entry.name in ("data", LOCK) for entry in self.root.iterdir())

    def check(self) -> None:
        """Refuses a folder that cannot be written; writes nothing.

        Raises:
            UserError: the folder cannot be created or written.
        """
        try:
            check_output(self.root, folder=True)
        except UserError as error:
            raise UserError(
                f"Invalid value for `work_dir`. Expected a folder that can be written. {error}"
            ) from error

    def make(self) -> None:
        """Creates the folder and removes what a killed run may have left half-written.

        Raises:
            UserError: the folder cannot be created or written.
        """
        self.check()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"Invalid value for `work_dir`. Expected a folder that can be created. "
                f"Received {self.root}: {error.strerror}."
            ) from error
        for place in (self.root, self.state, self.diverged):
            for entry in place.glob(".*.tmp"):
                # What cannot be removed is in nobody's way.
                with suppress(OSError):
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    @property
    def has_state(self) -> bool:
        """Whether a training state was saved."""
        return self.state.is_dir() and any(self.state.iterdir())

    def remove(self, *, keep_root: bool) -> None:
        """Removes the files of a run, and the folder unless something else lies in it."""
        self.clear()
        if not keep_root:
            with suppress(OSError):
                self.root.rmdir()

    def clear(self) -> None:
        """Removes the files of an earlier run and leaves everything else alone."""
        for path in (
            self.config, self.metrics, self.log, self.last, self.best, self.final,
            self.evaluation, self.detections, self.damaged_metrics, self.damaged_config,
            self.root / "last_ema.safetensors", self.root / "loss_curve.png",
            *self.root.glob("events.out.tfevents.*"),
        ):  # fmt: skip
            path.unlink(missing_ok=True)
        for folder in (self.state, self.diverged):
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all.

    Raises:
        RunFailedError: the system refused the write.
    """
    with saving(path), atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_text`, for JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turns whatever the system says against a write into one clear error."""
    try:
        yield
    except OSError as error:
        raise RunFailedError(
            f"Could not write {path}: {error.strerror or error}. Free space or make the folder "
            "writable, then continue with --resume."
        ) from error
    except UserError as error:
        raise RunFailedError(f"Could not write {path}: {error}") from error


def keep_config(folder: RunFolder) -> list[str]:
    """Moves a config that cannot be read aside before another takes its place.

    Returns:
        A line that says so, or nothing.
    """
    try:
        load_config(folder.config)
    except UserError as error:
        with suppress(OSError):
            folder.config.replace(folder.damaged_config)
            return [
                f"{folder.config} could not be read and is now {folder.damaged_config.name}: "
                f"{error}"
            ]
    return []
