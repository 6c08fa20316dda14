"""What a run writes down while it goes: metrics, TensorBoard events and a text log."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from unidet.engine.run_folder import RunFolder, saving, write_text


class RunLog:
    """Appends to ``metrics.jsonl``, the TensorBoard events and ``log.txt`` of a run.

    Args:
        folder: the run's folder.
        step: rows after this step are dropped: a resumed run takes those steps again.
    """

    def __init__(self, folder: RunFolder, step: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self.folder = folder
        self._started = time.perf_counter()
        keep_until(folder.metrics, step)
        with saving(folder.root):
            self._metrics = folder.metrics.open("a", encoding="utf-8")
            self._text = folder.log.open("a", encoding="utf-8")
            self._events = SummaryWriter(
                str(folder.root), purge_step=step + 1 if step else None, write_to_disk=True
            )

    def line(self, text: str) -> None:
        """Adds a line to the text log."""
        with saving(self.folder.log):
            self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            self._text.flush()

    def losses(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """One row of training values: ``loss``, ``loss/PART``, ``lr``, ``grad_norm``."""
        self._row({"step": step, "epoch": epoch, **values, "time": self._seconds()})
        for name, value in values.items():
            self._events.add_scalar(f"train/{name}", value, step)

    def evaluation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """One row of evaluation values."""
        self._row({"step": step, "epoch": epoch, "eval": metrics, "time": self._seconds()})
        for name, value in metrics.items():
            self._events.add_scalar(f"eval/{name}", value, step)
        self._events.flush()

    def epoch(self, step: int, epoch: int, loss: float) -> None:
        """Mean loss of an epoch, for TensorBoard; ``progress.json`` keeps the list."""
        self._events.add_scalar("train/epoch_loss", loss, step)

    def close(self) -> None:
        """Flushes and closes everything."""
        self._events.close()
        self._metrics.close()
        self._text.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._started, 3)

    def _row(self, row: dict[str, Any]) -> None:
        with saving(self.folder.metrics):
            self._metrics.write(json.dumps(row) + "\n")
            self._metrics.flush()


def keep_until(path: Path, step: int) -> None:
    """Drops the rows of ``metrics.jsonl`` after ``step`` and a last row that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("step", 0) <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
