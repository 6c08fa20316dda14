"""Reading what a run has logged."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError

METRICS_FILE = "metrics.jsonl"


@dataclass
class RunMetrics:
    """What a run has logged.

    Attributes:
        name: name of the run's folder.
        train: name of a value (``loss``, ``loss/cls``, ``lr``) to its ``(steps, values)``.
        evaluation: name of a metric (``AP``) to its ``(steps, values)``.
        epochs: epoch of each evaluated step.
    """

    name: str
    train: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    evaluation: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)


def read_metrics(run: str | Path) -> RunMetrics:
    """Reads the log of a run.

    A last line that was cut off, as a killed run leaves it, is passed over. Where a resumed run
    has logged a step twice, the later row counts.

    Args:
        run: the run's folder, or its ``metrics.jsonl``.

    Raises:
        UserError: no such file, another kind of file, or a line in the middle that is not JSON.
    """
    path = Path(run)
    if path.is_dir():
        path = path / METRICS_FILE
    elif path.is_file() and path.suffix != ".jsonl":
        raise UserError(f"Invalid run {path}. Expected the folder of a run, or its {METRICS_FILE}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"Cannot read {path}. Expected the folder of a run, or its {METRICS_FILE}."
        ) from error
    train: dict[str, dict[int, float]] = {}
    evaluation: dict[str, dict[int, float]] = {}
    metrics = RunMetrics(path.parent.resolve().name)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise UserError(
                f"Invalid line {number} of {path}. Expected an object with a step. "
                f"Received {line[:60]!r}."
            ) from error
        if "eval" in row:
            _collect(evaluation, step, row["eval"])
            metrics.epochs[step] = int(row.get("epoch", 0))
        else:
            values = {k: v for k, v in row.items() if k not in ("step", "epoch", "time")}
            _collect(train, step, values)
    metrics.train = {name: _series(values) for name, values in train.items()}
    metrics.evaluation = {name: _series(values) for name, values in evaluation.items()}
    return metrics


def _collect(into: dict[str, dict[int, float]], step: int, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            into.setdefault(name, {})[step] = float(value)


def _series(values: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    steps = sorted(values)
    return np.array(steps), np.array([values[step] for step in steps])
