"""YAML as people write it: `1e-4` is a number, `off` is a word, a repeated key is an error."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from unidet.config.build import ConfigError
from unidet.files.numbers import is_id
from unidet.files.shown import cut, shown

_TAG = "tag:yaml.org,2002:"
_SCALARS = tuple(_TAG + name for name in ("null", "bool", "int", "float", "str", "merge"))
#: Groups within groups, and values that aliases may add to those that are written.
_DEEPEST, _MOST_REPEATED = 50, 100_000


#: Resolved by rules below, or, as dates, left as text: no key holds one.
_OWN = ("bool", "float", "timestamp")


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2's rules for numbers and truth values."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class has it so)
        first: [entry for entry in entries if entry[0].rpartition(":")[2] not in _OWN]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for name, _ in node.value:
            if name.value in seen:
                raise _problem(f"the key {shown(name.value)} stands here twice", name)
            seen.add(name.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """A value of ``!!int``, ``!!float`` or ``!!bool``, whose text may be none."""
        kind = node.tag.rpartition(":")[2]
        try:
            value = getattr(super(), f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError, IndexError, OverflowError):
            raise _problem(f"{shown(node.value)} is no {kind} that can be read", node) from None
        if kind == "int" and not is_id(value):
            raise _problem(f"{shown(value)} has more than 64 bits", node)
        return value


def _problem(text: str, node: yaml.Node) -> ConstructorError:
    return ConstructorError(None, None, text, node.start_mark)


for _kind in ("int", "float", "bool"):
    _Loader.add_constructor(_TAG + _kind, _Loader.construct_number)


class _Sizes:
    """Values below each node, those of aliases counted wherever they stand."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int]] = {}
        self.open: set[int] = set()

    def of(self, node: yaml.Node) -> tuple[int, int]:
        """Values and depth of a node.

        Raises:
            ConstructorError: a loop, a tag that no config needs, a key that is no text.
        """
        if id(node) in self.open:
            raise _problem("an alias stands within its own anchor", node)
        if id(node) not in self.known:
            self.open.add(id(node))
            self.known[id(node)] = self._count(node)
            self.open.remove(id(node))
        return self.known[id(node)]

    def _count(self, node: yaml.Node) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _SCALARS:
                raise _problem(f"a value has the tag {shown(node.tag)}", node)
            if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in node.value):
                raise _problem("a value holds a character that no text file can hold", node)
            return 1, 0
        children = list(node.value)
        if isinstance(node, yaml.MappingNode):
            if node.tag != f"{_TAG}map":
                raise _problem(f"a value has the tag {shown(node.tag)}", node)
            for name, _ in children:
                if name.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                    text = name.value if isinstance(name, yaml.ScalarNode) else "a group"
                    raise _problem(f"a key is no text: {shown(text)}", name)
            children = [child for pair in children for child in pair]
        elif node.tag != f"{_TAG}seq":
            raise _problem(f"a value has the tag {shown(node.tag)}", node)
        sizes = [self.of(child) for child in children]
        depth = 1 + max((depth for _, depth in sizes), default=0)
        if depth > _DEEPEST:
            raise _problem(f"values are nested more than {_DEEPEST} deep", node)
        return 1 + sum(count for count, _ in sizes), depth


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """Writes short lists on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        flat = all(not isinstance(entry, (dict, list, tuple)) for entry in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)


def parse(text: str, origin: str) -> Any:
    """Reads YAML text.

    Raises:
        ConfigError: not YAML; names ``origin``, the line and the column.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        sizes = _Sizes()
        if sizes.of(node)[0] > len(sizes.known) + _MOST_REPEATED:
            raise _problem("aliases repeat too many values", node)
        return loader.construct_document(node)
    except RecursionError:
        raise ConfigError(
            f"Invalid YAML in {origin}. Expected a config. Received values that are nested more "
            f"than {_DEEPEST} deep."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = cut(getattr(error, "problem", None) or " ".join(str(error).split()), 300)
        raise ConfigError(
            f"Invalid YAML in {cut(origin, 200)}{place}. Expected a config. "
            f"Received text where {problem}."
        ) from None


def dump(mapping: Any) -> str:
    """YAML text of nested dicts and lists, keys in their own order."""
    return yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
