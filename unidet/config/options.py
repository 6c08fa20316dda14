"""Declaring one option of a config: default, meaning and the values it may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What an option accepts beyond its type.

    Attributes:
        low: smallest value.
        above: the value must be greater than this one.
        high: largest value.
        choices: the only values allowed, or a function that lists them where plugins add some.
    """

    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: Sequence[str] | Callable[[], Sequence[str]] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The only values allowed now; none: any."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    def describe(self) -> str:
        """The limits in words, such as ">= 0 and <= 1"."""
        parts = [
            f"{sign} {value:g}"
            for sign, value in ((">=", self.low), (">", self.above), ("<=", self.high))
            if value is not None
        ]
        return " and ".join(parts)

    def allow(self, value: float) -> bool:
        """Whether a number lies within the limits; NaN never does."""
        return (
            value == value
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )


def option(
    default: Any = MISSING,
    doc: str = "",
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: Sequence[str] | Callable[[], Sequence[str]] = (),
    factory: Any = MISSING,
) -> Any:
    """A dataclass field with its meaning and its limits.

    Args:
        default: value used when the key is absent; without one (and without ``factory``) the key
            is required.
        doc: one line for the reference of all keys.
        low: smallest number allowed.
        above: the number must be greater than this one.
        high: largest number allowed.
        choices: the only words allowed, or a function that lists them.
        factory: makes the default, for mutable or nested values.
    """
    metadata = {"doc": doc, "limits": Limits(low, above, high, choices)}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    if default is not MISSING:
        return field(default=default, metadata=metadata)
    return field(metadata=metadata)
