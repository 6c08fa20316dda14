"""Progress display of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Display:
    """Shows progress.

    Args:
        total: optimizer steps of the whole run.
        done: steps already taken by an earlier part of the run.
        quiet: show nothing.
        live: show a bar where there is a terminal. A launcher's terminal may be a file's.
    """

    def __init__(
        self, total: int, done: int = 0, *, quiet: bool = False, live: bool = True
    ) -> None:
        self.total, self.quiet = total, quiet
        self._first, self._started = done, time.perf_counter()
        self._console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if self._console.is_terminal and live and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("starting", total=total, completed=done)
            self._bar.start()

    def line(self, text: str) -> None:
        """One line that stays."""
        if not self.quiet:
            self._console.print(text, markup=False)

    def step(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """After every step: moves the bar."""
        if self._bar is not None and self._task is not None:
            text = f"epoch {epoch} loss {values['loss']:.4f}"
            self._bar.update(self._task, completed=step, description=text)

    def losses(self, step: int, epoch: int, values: Mapping[str, float]) -> str:
        """A line for the log, printed where there is no bar."""
        parts = [f"epoch {epoch}", f"step {step}/{self.total}"]
        parts += [f"{name} {values[name]:.4f}" for name in values if name.startswith("loss")]
        if "grad_norm" in values:
            parts.append(f"grad_norm {values['grad_norm']:.3g}")
        parts += [f"lr {values['lr']:.3g}", f"eta {self._eta(step)}"]
        text = "  ".join(parts)
        if self._bar is None:
            self.line(text)
        return text

    def _eta(self, step: int) -> str:
        taken = max(step - self._first, 1)
        left = (time.perf_counter() - self._started) / taken * (self.total - step)
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
