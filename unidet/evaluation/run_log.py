"""Reads the log of a run."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.files.numbers import is_id, is_number
from unidet.files.reading import read_bytes

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


@dataclass
class RunMetrics:
    """What a run has logged.

    Attributes:
        name: name of the run's folder.
        train: name of a value (``loss``, ``loss/cls``, ``lr``) to its ``(steps, values)``.
        evaluation: name of a metric (``AP``) to its ``(steps, values)``.
        epochs: epoch of each evaluated step.
        damaged: numbers of the lines that could not be read, from 1.
    """

    name: str
    train: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    evaluation: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)


def split_rows(data: bytes) -> tuple[list[tuple[bytes, dict[str, Any]]], list[int]]:
    """Reads the rows of a metrics file one by one.

    Args:
        data: content of the file.

    Returns:
        The rows that can be read, each as it stands and as an object with a step and numbers, and
        the numbers of the lines, from 1, that cannot. A last line that was cut off, as a killed
        run leaves it, is in neither.
    """
    rows, damaged = [], []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            row = None
        if _is_row(row):
            rows.append((line, row))
        elif number < len(lines):
            damaged.append(number)
    return rows, damaged


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not is_id(row.get("step")) or row["step"] < 0:
        return False
    values = {**row, "eval": 0}.values()
    evaluated = row.get("eval", {})
    return (
        isinstance(evaluated, dict)
        and is_id(row.get("epoch", 0))
        and all(map(_is_value, (*values, *evaluated.values())))
    )


def _is_value(value: Any) -> bool:
    return isinstance(value, float) or is_number(value)


def read_metrics(run: str | Path) -> RunMetrics:
    """Reads the log of a run.

    Lines that cannot be read are passed over with a warning; ``damaged`` holds their numbers.
    Where a resumed run has logged a step twice, the later row counts.

    Args:
        run: the run's folder, or its ``metrics.jsonl``.

    Raises:
        UserError: no such file, another kind of file, or one without a single row that can be
            read.
    """
    path = Path(run)
    if path.is_dir():
        path = path / METRICS_FILE
    elif path.is_file() and path.suffix != ".jsonl":
        raise UserError(f"Invalid run {path}. Expected the folder of a run, or its {METRICS_FILE}.")
    rows, damaged = split_rows(read_bytes(path, "Log of a run"))
    if damaged and not rows:
        raise UserError(
            f"Cannot read {path}. Expected lines that are objects with a step. Line {damaged[0]} "
            "is none, nor is any other."
        )
    if damaged:
        logger.warning(
            "%s: %d lines cannot be read and are left out, the first is line %d",
            path, len(damaged), damaged[0],
        )  # fmt: skip
    train: dict[str, dict[int, float]] = {}
    evaluation: dict[str, dict[int, float]] = {}
    metrics = RunMetrics(path.parent.resolve().name, damaged=damaged)
    for _, row in rows:
        step = row["step"]
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
