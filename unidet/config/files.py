"""Finding, reading, overriding and writing config files."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from unidet.config.build import ConfigError, build, is_position, keys, to_mapping
from unidet.config.checks import check
from unidet.config.schema import Config
from unidet.config.yaml_io import dump, parse
from unidet.errors import UserError, suggestion
from unidet.files import reading
from unidet.files.shown import cut, shown

#: How shipped files begin that hold a recipe of several runs (``unidet.recipes``), not a run.
RECIPE = "recipe_"
#: Parts of a dotted key.
_LONGEST_PATH = 20


def shipped(*, recipes: bool = False) -> tuple[str, ...]:
    """Names of the configs, or of the recipes, that come with unidet."""
    files = resources.files("unidet.configs").iterdir()
    names = sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))
    return tuple(name for name in names if name.startswith(RECIPE) == recipes)


def read_text(name_or_path: str | Path, *, recipes: bool = False) -> tuple[str, str]:
    """Text and display name of a shipped config or of a file.

    Args:
        name_or_path: a YAML file, or the bare name of a shipped one.
        recipes: bare names are those of recipes.

    Raises:
        ConfigError: neither a file nor the name of a shipped config.
    """
    name = str(name_or_path)
    path = Path(name)
    if reading.exists(path) and not path.is_dir():
        try:
            return reading.read_text(path, "Config"), name
        except UserError as error:
            raise ConfigError(f"Cannot read config {shown(name)}: {error}.") from None
    known = shipped(recipes=recipes)
    bare = name.removesuffix(".yaml")
    if bare in known:
        text = resources.files("unidet.configs").joinpath(f"{bare}.yaml").read_text("utf-8")
        return text, f"{bare}.yaml"
    raise ConfigError(
        f"Invalid value for `config`. Expected a YAML file or one of {', '.join(known)}. "
        f"Received {shown(name)}, which is neither.{suggestion(bare, known)}"
    )


def load_config(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a config and applies overrides.

    Args:
        name_or_path: a YAML file, or the bare name of a shipped config.
        overrides: texts such as ``"optimizer.lr=1e-3"``, the values in YAML.

    Raises:
        ConfigError: one line that names the key, the file, what was expected and received.
    """
    text, origin = read_text(name_or_path)
    values = parse(text, origin)
    return from_mapping(values if values is not None else {}, origin, overrides)


def from_mapping(values: Any, origin: str = "the config", overrides: Iterable[str] = ()) -> Config:
    """As :func:`load_config`, for values that are already read."""
    try:
        config = build(Config, values, origin)
        values = copy.deepcopy(values)
    except RecursionError:
        raise ConfigError(f"Invalid values of {origin}. They are nested too deep.") from None
    for override in overrides:
        source = f"--set {cut(override, 200)}"
        apply_override(values, override, source)
        config = build(Config, values, source)
    check(config, origin)
    return config


def resolve(config: Config) -> dict[str, Any]:
    """The config with every default filled in, as nested dicts and lists."""
    return to_mapping(config)


def dump_config(config: Config) -> str:
    """YAML text of the fully resolved config; :func:`load_config` reads it back unchanged."""
    return dump(resolve(config))


def reference() -> str:
    """All keys with their defaults and meanings, one a line."""
    rows = [(path, default, doc) for path, default, doc in keys(Config)]
    width = max(len(path) for path, _, _ in rows)
    return "\n".join(
        f"{path:<{width}}  {doc}" + (f" [{_shown(default)}]" if default is not None else "")
        for path, default, doc in rows
    )


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return str(list(default)) if isinstance(default, tuple) else str(default) or '""'


def apply_override(values: Any, override: str, source: str) -> None:
    """Sets one key of nested dicts and lists.

    Args:
        values: changed in place.
        override: ``key=value`` with a dotted key; the value is YAML.
        source: where it comes from, for messages.

    Raises:
        ConfigError: no ``key=value``, or a key that cannot hold a value.
    """
    path, equals, text = override.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts) or len(parts) > _LONGEST_PATH:
        raise ConfigError(
            f"Invalid value for `--set`. Expected key=value such as train.epochs=5. "
            f"Received {shown(override)}."
        )
    node = values
    for depth, part in enumerate(parts[:-1]):
        node = _descend(node, part, ".".join(parts[: depth + 1]), source)
    _assign(node, parts[-1], parse(text, source), path, source)


def _descend(node: Any, part: str, path: str, source: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, path, source)]
    child = node.get(part)
    if child is None:
        child = node[part] = {}
    if not isinstance(child, (dict, list)):
        raise ConfigError(
            f"Invalid key `{cut(path, 200)}` in {source}. Expected a group of keys. "
            f"Received a key whose value is {shown(child)}."
        )
    return child


def _assign(node: Any, part: str, value: Any, path: str, source: str) -> None:
    if isinstance(node, list):
        node[_index(node, part, path, source)] = value
    else:
        node[part] = value


def _index(node: list[Any], part: str, path: str, source: str) -> int:
    if not is_position(part) or int(part) >= len(node):
        raise ConfigError(
            f"Invalid key `{cut(path, 200)}` in {source}. Expected the position of one of "
            f"{len(node)} entries, counted from 0. Received {shown(part)}."
        )
    return int(part)
