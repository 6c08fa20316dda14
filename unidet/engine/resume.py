"""Checks whether a saved run can be resumed with a config, and lists what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unidet.config import Config, resolve
from unidet.engine.saved_state import Saved
from unidet.errors import UserError
from unidet.files.shown import shown

#: A run with another one of these would be another run.
_FIXED = ("model", "optimizer.name", "optimizer.groups", "train.freeze")
#: These decide which images a batch holds, so they may change between epochs only.
_FIXED_WITHIN_EPOCH = (
    "data.batch_size",
    "data.group_by_aspect_ratio",
    "data.drop_last",
    "data.skip_empty",
    "data.train",
    "data.format",
    "data.scenes",
    "train.accumulate",
    "train.seed",
)


def changes(saved: Mapping[str, Any], config: Config) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ: dotted path to (saved, new)."""
    before, after = dict(_flat(saved)), dict(_flat(resolve(config)))
    return {
        key: (before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }


def check_resume(saved: Saved, config: Config, origin: str) -> list[str]:
    """Refuses settings that a saved run cannot go on with.

    Args:
        saved: the training state.
        config: the config of the run that goes on.
        origin: where the state was found, for messages.

    Returns:
        One line for each key that differs and may.

    Raises:
        UserError: names the key, its saved value and the new one.
    """
    found = changes(saved.config, config)
    for key, (before, after) in found.items():
        if _within(key, _FIXED):
            raise UserError(
                f"Invalid value for `{key}`. Expected {shown(before)}, with which the run in "
                f"{origin} was started. Received {shown(after)}. Start a new run with "
                "train.weights to change it."
            )
        if saved.progress.batch and _within(key, _FIXED_WITHIN_EPOCH):
            raise UserError(
                f"Invalid value for `{key}`. Expected {shown(before)}, because the state in "
                f"{origin} lies within epoch {saved.progress.epoch + 1}. Received {shown(after)}."
            )
    return [f"{key}: {shown(before)} -> {shown(after)}" for key, (before, after) in found.items()]


def _within(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping) and value:
            yield from _flat(value, path)
        else:
            yield path, value
