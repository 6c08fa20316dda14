"""Training: the loop, schedules, run folders, and resuming on either backend."""

from __future__ import annotations

from typing import Any

__all__ = ["RunResult", "Trainer", "train"]


def __getattr__(name: str) -> Any:
    # Schedules and run folders can be used without loading all that training needs.
    if name in __all__:
        from unidet.engine import run, trainer

        return getattr(trainer if name == "Trainer" else run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
