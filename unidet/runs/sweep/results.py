"""What the runs of a sweep have reached, read from their folders."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unidet.config import Config, load_config, to_mapping
from unidet.errors import UserError
from unidet.evaluation.compare import best_row
from unidet.evaluation.localisation import SCORE_THRESHOLD, localisation
from unidet.evaluation.results import read_results
from unidet.evaluation.run_log import RunMetrics, read_metrics
from unidet.runs.sweep.grid import SweepRun, Version
from unidet.runs.sweep.record import SweepRecord


@dataclass
class RunResult:
    """One run.

    Attributes:
        name: of its folder.
        seed: of the run.
        status: see :meth:`unidet.runs.sweep.record.SweepRecord.status`.
        reason: why it has failed.
        metric: the one by which its best evaluation was chosen.
        best: value of the metric there, None without an evaluation.
        step, epoch: of that evaluation.
        metrics: all others of it.
        last_loss: mean of the last tenth of the logged losses.
        localisation: of the detections of that evaluation, see
            :meth:`unidet.evaluation.localisation.Localisation.to_dict`.
        log: all that it has logged.
    """

    name: str
    seed: int
    status: str
    reason: str
    metric: str
    best: float | None = None
    step: int | None = None
    epoch: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    last_loss: float | None = None
    localisation: dict[str, Any] | None = None
    log: RunMetrics | None = None

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types, without the log."""
        values = {k: v for k, v in vars(self).items() if k not in ("log", "reason")}
        return values | ({"reason": self.reason} if self.reason else {})


@dataclass
class VersionResult:
    """One version with its runs, those that have not begun included."""

    version: Version
    runs: list[RunResult]

    def values(self) -> list[float]:
        """Best value of each run that has one."""
        return [run.best for run in self.runs if run.best is not None]


class Reader:
    """Reads the results of a sweep; what has not changed since is not read again.

    Args:
        record: of the sweep.
        score_threshold: of the localisation report.
    """

    def __init__(self, record: SweepRecord, score_threshold: float = SCORE_THRESHOLD) -> None:
        self.record, self.score_threshold = record, score_threshold
        self._truths: dict[str, dict[str, Any]] = {}
        self._reports: dict[tuple[str, int], dict[str, Any]] = {}

    def read(self) -> list[VersionResult]:
        """All versions in their order."""
        return [
            VersionResult(version, [self._run(run) for run in version.runs])
            for version in self.record.versions
        ]

    def _run(self, run: SweepRun) -> RunResult:
        options = run.config.train
        folder = self.record.folder(run.name)
        status = self.record.status(run.name)
        reason = self.record.reason(run.name) if status else ""
        result = RunResult(run.name, options.seed, status, reason, options.best_metric)
        if not status or not folder.metrics.is_file():
            return result
        result.log = read_metrics(folder.root)
        row = best_row(result.log, run.name, {}, options.best_metric, options.maximise)
        metrics = {name: value for name, value in row.metrics.items() if math.isfinite(value)}
        result.best = metrics.get(options.best_metric)
        if result.best is not None:
            result.step, result.epoch, result.metrics = row.best_step, row.best_epoch, metrics
        if row.last_loss is not None and math.isfinite(row.last_loss):
            result.last_loss = row.last_loss
        if folder.detections.is_file():
            result.localisation = self._localisation(folder.root, folder.detections)
        return result

    def _localisation(self, root: Path, detections: Path) -> dict[str, Any]:
        key = (str(detections), detections.stat().st_mtime_ns)
        if key not in self._reports:
            truth = self._truth(load_config(root / "config.yaml"), root)
            found = localisation(
                truth, read_results(detections), score_threshold=self.score_threshold
            )
            self._reports[key] = found.to_dict()
        return self._reports[key]

    def _truth(self, config: Config, root: Path) -> dict[str, Any]:
        """The validation set in COCO form; versions that share it read it once."""
        from unidet.engine.setup import load_datasets

        key = json.dumps(to_mapping(config.data), sort_keys=True)
        if key not in self._truths:
            datasets = load_datasets(config, "val", root)
            if not datasets:
                raise UserError(f"Invalid run {root}. Expected one with a validation set.")
            self._truths[key] = datasets[0].to_coco()
        return self._truths[key]
