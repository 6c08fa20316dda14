"""YAML as people write it: `1e-4` is a number, `off` is a word, a repeated key is an error."""

from __future__ import annotations

import re
from typing import Any

import yaml

from unidet.config.build import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2's rules for numbers and truth values."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class has it so)
        first: [entry for entry in entries if entry[0].rpartition(":")[2] not in ("bool", "float")]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for name, _ in node.value:
            if name.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name.value!r} stands here twice", name.start_mark
                )
            seen.add(name.value)
        return super().construct_mapping(node, deep)


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
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).replace("\n", " ")
        raise ConfigError(
            f"Invalid YAML in {origin}{place}. Expected a config. Received text where {problem}."
        ) from None


def dump(mapping: Any) -> str:
    """YAML text of nested dicts and lists, keys in their own order."""
    return yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
