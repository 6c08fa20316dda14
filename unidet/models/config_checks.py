"""What the configs of all models share: checks of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unidet.errors import suggestion


def require(good: bool, name: str, expected: str, received: Any) -> None:
    """Refuses an argument unless ``good``.

    Raises:
        ValueError: names the argument, what was expected and what was received.
    """
    if not good:
        received = str(received).rstrip(".")
        raise ValueError(f"Invalid value for `{name}`. Expected {expected}. Received {received}.")


def require_choices(config: Any, choices: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses a config whose arguments are not among their choices.

    Args:
        config: has an attribute for each name.
        choices: allowed values by name.

    Raises:
        ValueError: as :func:`require`, with a suggestion where a value is misspelt.
    """
    for name, allowed in choices.items():
        value = getattr(config, name)
        require(
            value in allowed,
            name,
            f"one of {', '.join(map(repr, allowed))}",
            f"{value!r}.{suggestion(str(value), map(str, allowed))}",
        )
