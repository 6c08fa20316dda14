"""Are a model's arguments of the types that its config declares? YAML and JSON carry no types."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.files.numbers import is_id, is_number
from unidet.files.shown import shown

_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "null",
}
_DEEPEST = 10
_NUMBERS = {int: (int, np.integer), float: (int, float, np.integer, np.floating)}


def check_types(arguments: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Refuses the first argument whose type does not fit.

    Args:
        arguments: by name, as a user gave them.
        hints: type of each argument; an argument without one passes.

    Raises:
        UserError: names the argument, what was expected and what was received.
    """
    for name, value in arguments.items():
        _check_numbers(name, value)
        if name in hints and not fits(value, hints[name]):
            raise UserError(
                f"Invalid value for `{name}`. Expected {describe(hints[name])}. "
                f"Received {shown(value)} ({type(value).__name__})."
            )


def _check_numbers(name: str, value: Any, depth: int = 0) -> None:
    """Refuses NaN, infinity and integers beyond 64 bits, however deep they lie."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (Mapping, list, tuple)):
        if depth > _DEEPEST:
            raise UserError(f"Invalid value for `{name}`. Received lists that are nested too deep.")
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_numbers(name, item, depth + 1)
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if (whole and not is_id(value)) or (isinstance(value, float) and not is_number(value)):
        expected = "an integer of 64 bits" if whole else "a finite number"
        raise UserError(
            f"Invalid value for `{name}`. Expected {expected}. Received {shown(value)}."
        )


def fits(value: Any, hint: Any) -> bool:
    """Whether a value may stand where ``hint`` is declared; lists may stand for tuples.

    A flat list may stand for a tuple of tuples: models take one entry for each level.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if origin is tuple:
        return _fits_tuple(value, inner)
    if isinstance(origin or hint, type) and issubclass(origin or hint, Mapping):
        return isinstance(value, Mapping)
    if hint in (int, float):
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in _WORDS else True


def _fits_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return False
    if inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(fits, value, inner))
    item = inner[0]
    flat = typing.get_args(item)[0] if typing.get_origin(item) is tuple else item
    return all(fits(entry, item) or fits(entry, flat) for entry in value)


def describe(hint: Any) -> str:
    """A type in words, such as "a list of numbers or null"."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(option) for option in inner)
    if origin is tuple:
        plurals = {int: "integers", float: "numbers", str: "texts"}
        count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"a list of {count}{plurals.get(inner[0], 'lists of numbers')}"
    if isinstance(origin or hint, type) and issubclass(origin or hint, Mapping):
        return "a mapping of names to values"
    return _WORDS.get(hint, str(hint))
