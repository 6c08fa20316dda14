"""Arguments of models: each is declared once, with its default, its meaning and its limits.

::

    @dataclass(frozen=True)
    class FCOSConfig(Arguments):
        num_classes: int = argument(80, "number of labels", least=1, kind=VISIBLE)
        norm: str = argument("batch", "norm of the backbone", choices=("batch", "frozen"))

Checks, presets, ``unidet train --keys MODEL``, the site's page of arguments, and the conventions
that a converter compares are read from these declarations.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

import numpy as np

from unidet.errors import UserError, suggestion
from unidet.files.numbers import is_id, is_number
from unidet.files.shown import cut, shown

#: Kinds of arguments. What the names and shapes of the tensors show, labels included.
VISIBLE = "visible"
#: What only training uses.
TRAINING = "training"
#: What a user sets at will: how many detections, how good.
SETTING = "setting"
#: What moves the outputs of trained weights and no tensor shows.
CONVENTION = "convention"
KINDS = (VISIBLE, TRAINING, SETTING, CONVENTION)

_KEY = "argument"

Parameters = typing.ParamSpec("Parameters")
Config = typing.TypeVar("Config")

if sys.version_info >= (3, 11):
    from typing import dataclass_transform
else:

    def dataclass_transform(**options: Any) -> Any:
        """Python 3.10 has none; only type checkers need it."""
        return lambda decorator: decorator


@dataclass(frozen=True)
class About:
    """What is declared about an argument beside its name, type and default.

    Attributes:
        meaning: one line for users.
        kind: one of :data:`KINDS`.
        choices: the allowed values; none: any.
        least, most: limits that are allowed themselves.
        above, below: limits that are not.
    """

    meaning: str
    kind: str = CONVENTION
    choices: tuple[Any, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def allows(self, value: Any) -> bool:
        """Whether a value, or each entry of a list, lies within the limits; None always does."""
        if value is None:
            return True
        if isinstance(value, (list, tuple)):
            return all(map(self.allows, value))
        if isinstance(value, (str, bool, Mapping)):
            return True
        return not (
            (self.least is not None and not value >= self.least)
            or (self.most is not None and not value <= self.most)
            or (self.above is not None and not value > self.above)
            or (self.below is not None and not value < self.below)
        )

    @property
    def limits(self) -> str:
        """The limits in words, such as "1 or more"; empty where there are none."""
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        if self.above is not None and self.below is not None:
            return f"a number between {self.above:g} and {self.below:g}"
        words = []
        if self.least is not None:
            words.append(f"{self.least:g} or more")
        if self.above is not None:
            words.append(f"a number above {self.above:g}")
        if self.most is not None:
            words.append(f"at most {self.most:g}")
        if self.below is not None:
            words.append(f"less than {self.below:g}")
        return " and ".join(words)


def argument(
    default: Any,
    meaning: str,
    *,
    kind: str = CONVENTION,
    choices: Sequence[Any] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """Declares an argument in the body of a config.

    Args:
        default: its value by default; a function without arguments makes a new one each time.
        meaning: one line for users.
        kind, choices, least, most, above, below: see :class:`About`. Limits of a list hold for
            each of its numbers.
    """
    about = About(meaning, kind, tuple(choices), least, most, above, below)
    metadata = {_KEY: about}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def built_from(
    config: Callable[Parameters, Config],
) -> Callable[[Callable[[Any, Config], None]], Callable[typing.Concatenate[Any, Parameters], None]]:
    """Tells editors and type checkers that a model class takes the arguments of its config.

    It decorates ``__init__`` and changes nothing: making a model already turns the arguments into
    a config (:meth:`unidet.models.base.Model.constructor_arguments`).
    """

    def unchanged(init: Any) -> Any:
        return init

    return unchanged


@dataclass_transform(field_specifiers=(argument,))
def changed(
    base: type[Arguments], /, **defaults: Any
) -> Callable[[type[Arguments]], type[Arguments]]:
    """Class decorator: ``dataclass(frozen=True)`` with other defaults for inherited arguments.

    Args:
        base: the config that declares them.
        defaults: values by name.
    """
    hints = typing.get_type_hints(base)
    declared = {item.name: item for item in fields(base)}

    def decorate(kind: type[Arguments]) -> type[Arguments]:
        for name, value in defaults.items():
            metadata = dict(declared[name].metadata)
            kind.__annotations__[name] = hints[name]
            if callable(value):
                setattr(kind, name, field(default_factory=value, metadata=metadata))
            else:
                setattr(kind, name, field(default=value, metadata=metadata))
        return dataclass(frozen=True)(kind)

    return decorate


@dataclass(frozen=True)
class Arguments:
    """Base of the configs of models: a frozen dataclass that checks itself."""

    if typing.TYPE_CHECKING:
        # What a model class takes beside the arguments of its config; see ``built_from``.
        backend: str | None = None

    #: Inherited arguments that have one value only in this config; users cannot give them.
    fixed: typing.ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for item in fields(self):
            # Lists come from YAML and JSON.
            value = _frozen(getattr(self, item.name))
            object.__setattr__(self, item.name, self.normalised(item.name, value))
        self.check_limits()
        self.check_class_names()
        self.check()

    def normalised(self, name: str, value: Any) -> Any:
        """The value that the config keeps for an argument; a subclass may complete it."""
        return value

    def check(self) -> None:
        """Rules between arguments, for a subclass.

        Raises:
            ValueError: values that do not go together.
        """

    def check_limits(self) -> None:
        """Refuses values outside of what is declared.

        Raises:
            ValueError: names the argument, what was expected and what was received.
        """
        for item in fields(self):
            about: About = item.metadata[_KEY]
            value = getattr(self, item.name)
            if about.choices:
                require(
                    value in about.choices,
                    item.name,
                    f"one of {', '.join(map(repr, about.choices))}",
                    f"{shown(value)}.{suggestion(str(value), map(str, about.choices))}",
                )
            if not about.allows(value):
                is_list = isinstance(value, tuple)
                words = about.limits
                if is_list:
                    words = f"numbers {words.removeprefix('a number ')}"
                null = ", or null" if "None" in str(item.type) and not is_list else ""
                require(False, item.name, f"{words}{null}", shown(value))
            if about.above is not None and value == ():
                require(False, item.name, "numbers above 0", shown(value))

    def check_class_names(self) -> None:
        """Refuses class names of another number than classes."""
        names = getattr(self, "class_names", None)
        count = self.label_count()
        require(
            names is None or count is None or len(names) == count,
            "class_names",
            f"{count} names",
            len(names or ()),
        )

    def label_count(self) -> int | None:
        """How many labels detections may have."""
        return getattr(self, "num_classes", None)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all arguments."""
        return tuple(item.name for item in fields(cls))

    @classmethod
    def about(cls) -> dict[str, About]:
        """What is declared about each argument."""
        return {item.name: item.metadata[_KEY] for item in fields(cls)}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default of each argument."""
        found = {}
        for item in fields(cls):
            if item.default is not MISSING:
                found[item.name] = item.default
            elif item.default_factory is not MISSING:
                found[item.name] = item.default_factory()
        return found

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain lists, numbers and strings, for YAML and JSON."""
        return {key: plain(value) for key, value in asdict(self).items()}


def plain(value: Any) -> Any:
    """Tuples as lists, at any depth, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def require(good: bool, name: str, expected: str, received: Any) -> None:
    """Refuses an argument unless ``good``.

    Raises:
        ValueError: names the argument, what was expected and what was received.
    """
    if not good:
        received = cut(str(received).rstrip("."), 300)
        raise ValueError(f"Invalid value for `{name}`. Expected {expected}. Received {received}.")


def reference(config: type[Arguments], values: Mapping[str, Any], names: Sequence[str]) -> str:
    """Arguments of a model with their values and meanings, one a line.

    Args:
        config: type of the model's config.
        values: what a name of the model stands for.
        names: which arguments, in this order.
    """
    width = max(len(name) for name in names)
    lines = []
    for name in names:
        about = config.about()[name]
        limits = f" ({', '.join(map(str, about.choices))})" if about.choices else ""
        if about.limits:
            limits = f" ({about.limits})"
        lines.append(f"{name:<{width}}  {about.meaning}{limits} [{shown(plain(values[name]))}]")
    return "\n".join(lines)


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
