"""Logs of a run: metrics, TensorBoard events and a text log."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from unidet.engine.events import Events
from unidet.engine.run_folder import RunFolder, saving, write_text
from unidet.engine.smoothing import MovingAverage
from unidet.errors import RunFailedError
from unidet.evaluation.run_log import split_rows
from unidet.files.reading import read_bytes


class RunLog:
    """Appends to ``metrics.jsonl``, the TensorBoard events and ``log.txt`` of a run.

    TensorBoard gets each loss twice, as it is and as its moving average under ``loss_smooth``.

    Args:
        folder: the run's folder.
        step: rows after this step are dropped: a resumed run takes those steps again.
        smoothing: factor of the moving average; 0 leaves it out.

    Attributes:
        damage: a line about rows that could not be read, or nothing.

    Raises:
        RunFailedError: from here and from every method but ``close``, when the system refuses a
            write, as on a full disk.
    """

    def __init__(self, folder: RunFolder, step: int = 0, smoothing: float = 0.0) -> None:
        self.folder, self._smoothing = folder, smoothing
        self._averages: dict[str, MovingAverage] = {}
        self._started = time.perf_counter()
        rows, self.damage = keep_until(folder, step)
        for row in rows:
            self._scalars(row)  # the averages go on where they were
        with saving(folder.root):
            self._metrics = folder.metrics.open("a", encoding="utf-8")
            self._text = folder.log.open("a", encoding="utf-8")
        self._events = Events(folder.root, step)

    def line(self, text: str) -> None:
        """Adds a line to the text log."""
        with saving(self.folder.log):
            self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            self._text.flush()

    def losses(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """One row of training values: ``loss``, ``loss/PART``, ``lr``, ``grad_norm``."""
        row = {"step": step, "epoch": epoch, **values, "time": self._seconds()}
        self._row(row)
        self._events.add(self._scalars(row), step)

    def evaluation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """One row of evaluation values."""
        row = {"step": step, "epoch": epoch, "eval": metrics, "time": self._seconds()}
        self._row(row)
        self._events.add(self._scalars(row), step)
        self._events.flush()

    def epoch(self, step: int, epoch: int, loss: float) -> None:
        """Mean loss of an epoch, for TensorBoard; ``progress.json`` keeps the list."""
        self._events.add({"train/epoch_loss": loss}, step)
        self._events.flush()

    def close(self) -> None:
        """Flushes and closes everything. A full disk was reported by the write that met it."""
        for file in (self._events, self._metrics, self._text):
            with contextlib.suppress(OSError, RunFailedError):
                file.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _scalars(self, row: dict[str, Any]) -> dict[str, float]:
        """Names and values that a row of the metrics file has in TensorBoard."""
        part, values = "eval", row.get("eval")
        if values is None:
            places = ("step", "epoch", "time")
            part, values = "train", {k: v for k, v in row.items() if k not in places}
        found = {f"{part}/{name}": value for name, value in values.items()}
        for name, value in list(found.items()):
            if self._smoothing and "loss" in name:
                average = self._averages.setdefault(name, MovingAverage(self._smoothing))
                found[name.replace("loss", "loss_smooth", 1)] = average.add(value)
        return found

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._started, 3)

    def _row(self, row: dict[str, Any]) -> None:
        with saving(self.folder.metrics):
            self._metrics.write(json.dumps(row) + "\n")
            self._metrics.flush()


class NoLog(RunLog):
    """Writes nothing: that of all ranks but one."""

    def __init__(self) -> None:
        self.damage = ""

    def line(self, text: str) -> None:
        pass

    def losses(self, step: int, epoch: int, values: dict[str, float]) -> None:
        pass

    def evaluation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        pass

    def epoch(self, step: int, epoch: int, loss: float) -> None:
        pass

    def close(self) -> None:
        pass


def keep_until(folder: RunFolder, step: int) -> tuple[list[dict[str, Any]], str]:
    """Drops the rows of ``metrics.jsonl`` after ``step`` and a last row that was cut off.

    Lines that cannot be read go into ``metrics.damaged``.

    Returns:
        The rows that are left, and a line that says what was damaged; empty where nothing was.

    Raises:
        UserError: the file cannot be read.
        RunFailedError: the system refused a write.
    """
    path = folder.metrics
    if not path.exists():
        return [], ""
    data = read_bytes(path, "Log of the run")
    rows, damaged = split_rows(data)
    note = ""
    if damaged:
        lines = data.split(b"\n")
        with saving(folder.damaged_metrics), folder.damaged_metrics.open("ab") as file:
            file.writelines(lines[number - 1] + b"\n" for number in damaged)
        note = (
            f"{len(damaged)} lines of {path} could not be read, the first of them line "
            f"{damaged[0]}: they are now in {folder.damaged_metrics.name}"
        )
    kept = [(line, row) for line, row in rows if row["step"] <= step]
    write_text(path, "".join(line.decode("utf-8") + "\n" for line, _ in kept))
    return [row for _, row in kept], note
