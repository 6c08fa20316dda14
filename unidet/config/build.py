"""From plain mappings to checked dataclasses and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from unidet.config.options import Limits
from unidet.errors import UserError, suggestion
from unidet.files.numbers import is_id, is_number
from unidet.files.shown import cut, shown

T = TypeVar("T")
_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


class ConfigError(UserError):
    """A config that cannot be used: names the key, the file, what was expected and received."""


def invalid(key: str, origin: str, expected: str, received: Any, hint: str = "") -> ConfigError:
    """The error for one bad value."""
    text = "nothing" if received is None else f"{shown(received)} ({type(received).__name__})"
    return ConfigError(
        f"Invalid value for `{cut(key, 200)}` in {cut(origin, 200)}. Expected {expected}. "
        f"Received {text}.{hint}"
    )


def build(kind: type[T], values: Any, origin: str, key: str = "") -> T:
    """Makes a config dataclass from what a YAML file holds.

    Args:
        kind: the dataclass.
        values: a mapping; absent keys take their defaults.
        origin: where the values come from, for messages.
        key: dotted path of ``values``.

    Raises:
        ConfigError: unknown or missing key, wrong type, value out of its limits.
    """
    if not isinstance(values, Mapping):
        raise invalid(key or "config", origin, "a mapping of keys to values", values)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise _unknown(_join(key, str(name)), str(name), list(fields), origin)
    hints = _hints(kind)
    made = {}
    for name, field in fields.items():
        path = _join(key, name)
        if name in values:
            limits = field.metadata.get("limits", Limits())
            made[name] = convert(hints[name], values[name], path, origin, limits)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            meaning = field.metadata.get("doc", "")
            raise ConfigError(f"Missing key `{path}` in {origin}. Expected {meaning}.")
    return kind(**made)


def convert(hint: Any, value: Any, key: str, origin: str, limits: Limits) -> Any:
    """Checks one value against its type hint and limits and returns it in that type."""
    origin_type, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin_type in (typing.Union, types.UnionType):
        if value is None:
            return None
        return convert(arguments[0], value, key, origin, limits)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, origin, key)
    if origin_type is tuple:
        return _convert_list(arguments, value, key, origin, limits)
    if origin_type is dict:
        if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
            raise invalid(key, origin, "a mapping of names to values", value)
        return dict(value)
    return _convert_scalar(hint, value, key, origin, limits)


def _convert_list(
    arguments: tuple[Any, ...], value: Any, key: str, origin: str, limits: Limits
) -> tuple[Any, ...]:
    item = arguments[0]
    # One entry may be written without the list around it.
    numbered = isinstance(value, Mapping) and any(is_position(str(name)) for name in value)
    if isinstance(value, Mapping) and dataclasses.is_dataclass(item) and not numbered:
        value = [value]
    fixed = None if arguments[-1] is Ellipsis else len(arguments)
    if not isinstance(value, (list, tuple)) or (fixed is not None and len(value) != fixed):
        raise invalid(key, origin, f"a list of {fixed} values" if fixed else "a list", value)
    return tuple(
        convert(item, entry, f"{key}.{index}", origin, limits) for index, entry in enumerate(value)
    )


def _convert_scalar(hint: Any, value: Any, key: str, origin: str, limits: Limits) -> Any:
    if words := limits.words:
        if value not in words:
            hint_text = suggestion(value, words) if isinstance(value, str) else ""
            raise invalid(key, origin, f"one of {', '.join(words)}", value, hint_text)
        return value
    accepted = (int, float) if hint is float else (hint,)
    expected = " ".join(filter(None, (_WORDS[hint], limits.describe())))
    # bool is an int in Python, but not in a config.
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise invalid(key, origin, expected, value)
    held = {int: is_id, float: is_number}.get(hint, lambda _: True)
    if not held(value) or (hint in (int, float) and not limits.allow(value)):
        raise invalid(key, origin, expected, value)
    return float(value) if hint is float else value


def to_mapping(value: Any) -> Any:
    """A config as nested dicts and lists, ready for YAML or JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_mapping(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_mapping(item) for item in value]
    return value


def keys(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """All keys below a config dataclass as (dotted path, default, meaning)."""
    hints = _hints(kind)
    for field in dataclasses.fields(kind):
        path = _join(prefix, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from keys(hints[field.name], path)
            continue
        default = None if field.default is dataclasses.MISSING else field.default
        choices = field.metadata["limits"].words
        yield path, default, field.metadata["doc"] + (f" ({', '.join(choices)})" if choices else "")
        entry = (*typing.get_args(hints[field.name]), None)[0]
        if isinstance(entry, type) and dataclasses.is_dataclass(entry):
            yield from keys(entry, f"{path}.0")


def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _unknown(path: str, name: str, siblings: list[str], origin: str) -> ConfigError:
    from unidet.config.schema import Config

    hint = suggestion(name, siblings)
    if not hint:
        elsewhere = [full for full, _, _ in keys(Config) if full.rpartition(".")[2] == name]
        hint = f" Did you mean {elsewhere[0]!r}?" if elsewhere else ""
    return ConfigError(
        f"Unknown key `{cut(path, 200)}` in {cut(origin, 200)}.{hint}"
        f" Expected one of {', '.join(siblings)}."
    )


def is_position(text: str) -> bool:
    """Whether text is the position of an entry: the digits 0 to 9, not those of other scripts."""
    return text.isascii() and text.isdigit() and len(text) < 10


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
