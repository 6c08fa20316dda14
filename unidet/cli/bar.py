"""Progress bar for commands that process many images."""

from __future__ import annotations

from typing import Any


class Progress:
    """A bar on a terminal, silent elsewhere."""

    def __init__(self, total: int, *, shown: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("images", total=total)

    def __call__(self, done: int) -> None:
        self._bar.update(self._task, completed=done)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._bar.stop()
