"""From a config and a grid to versions: names, settings and checked configs."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unidet.config import Config, ConfigError, from_mapping, keys, resolve
from unidet.config.files import apply_override
from unidet.config.yaml_io import parse
from unidet.errors import UserError, suggestion
from unidet.evaluation.compare import short_titles
from unidet.files.shown import cut, shown

#: A dotted config key to the values it takes.
Grid = dict[str, list[Any]]

#: The one version of a sweep without a grid.
BASE = "base"
_ARGUMENTS = "model.arguments"
_SEED = "train.seed"
#: Characters of a value in the name of a folder; the system takes 255 in all.
_LONGEST = 60


@dataclass(frozen=True)
class SweepRun:
    """One training.

    Attributes:
        name: of its folder.
        version: the one that it trains.
        config: of the run, its seed included.
    """

    name: str
    version: str
    config: Config


@dataclass(frozen=True)
class Version:
    """One point of the grid.

    Attributes:
        name: what tells it from the others, such as ``box_loss=giou,lr=1e-05``.
        settings: dotted config key to value.
        runs: one for each seed.
    """

    name: str
    settings: dict[str, Any]
    runs: tuple[SweepRun, ...]


def parse_grid(texts: Iterable[str], config: Config) -> Grid:
    """Reads ``KEY=v1,v2,...``.

    Args:
        texts: as given on the command line; the values are YAML.
        config: that the keys change.

    Raises:
        ConfigError: no values, the same key or value twice, or a key that is unknown or has two
            meanings.
    """
    grid: Grid = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        source = f"--grid {cut(text, 200)}"
        values = parse(f"[{listed}]", source) if equals and key.strip() else []
        if not values:
            raise ConfigError(
                f"Invalid value for `--grid`. Expected KEY=v1,v2,... such as "
                f"optimizer.lr=1e-5,5e-5. Received {shown(text)}."
            )
        full = full_key(key.strip(), config, source)
        if full in grid:
            raise ConfigError(
                f"Invalid value for `--grid`. Expected each key once. Received {full} twice."
            )
        for index, value in enumerate(values):
            if value in values[:index]:
                raise ConfigError(
                    f"Invalid value for `{full}` in {source}. Expected different values. "
                    f"Received {cut(_shown(value), 120)} twice."
                )
        grid[full] = values
    return grid


def full_key(key: str, config: Config, source: str) -> str:
    """The dotted config key that is meant.

    Args:
        key: an argument of the model, or a dotted key, which the config itself checks.
        config: names the model.
        source: where the key stands, for messages.

    Raises:
        ConfigError: a short key that is no argument of the model, or one of the config too.
    """
    from unidet.models import model_spec

    if key == _SEED:
        raise ConfigError(
            f"Invalid key `{key}` in {source}. Expected another one: --repeat N trains each "
            "version with N seeds, from --seed on."
        )
    if "." in key:
        return key
    accepts = model_spec(config.model.name).accepts
    known = [path for path, _, _ in keys(Config)]
    elsewhere = [path for path in known if path.rpartition(".")[2] == key]
    if key in accepts and not elsewhere:
        return f"{_ARGUMENTS}.{key}"
    if key in accepts:
        both = " and ".join([f"{_ARGUMENTS}.{key}", *elsewhere])
        raise ConfigError(
            f"Invalid key `{key}` in {source}. Expected a key with one meaning, written in full. "
            f"Received one that may be {both}."
        )
    hint = f" Did you mean {elsewhere[0]!r}?" if elsewhere else suggestion(key, (*accepts, *known))
    raise ConfigError(
        f"Unknown key `{key}` in {source}.{hint} Expected an argument of {config.model.name}, or a "
        "key of the config in full (unidet train --keys)."
    )


def versions_of(config: Config, grid: Mapping[str, Sequence[Any]], repeat: int) -> list[Version]:
    """All versions in the order of the grid, the last key changing fastest.

    Args:
        config: what the versions have in common; its seed is the first one.
        grid: of :func:`parse_grid`.
        repeat: seeds of each version.

    Raises:
        UserError: a version that cannot be trained; names it.
    """
    titles = short_titles(list(grid))
    found = []
    taken: set[str] = set()
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values))
        parts = [f"{titles[key]}={_plain(value)}" for key, value in settings.items()]
        name = ",".join(parts) or BASE
        if name in taken:
            name = f"{name},{len(taken)}"
        taken.add(name)
        chosen = _with(config, settings, name)
        runs = tuple(_run(chosen, name, config.train.seed + i) for i in range(repeat))
        found.append(Version(name, settings, runs))
    return found


def _run(config: Config, version: str, seed: int) -> SweepRun:
    seeded = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
    name = f"seed={seed}" if version == BASE else f"{version},seed={seed}"
    return SweepRun(name, version, seeded)


def _with(config: Config, settings: Mapping[str, Any], name: str) -> Config:
    from unidet.models.factory import check_arguments

    values = copy.deepcopy(resolve(config))
    source = f"version {name}"
    for key, value in settings.items():
        apply_override(values, f"{key}={json.dumps(value)}", source)
    chosen = from_mapping(values, source)
    try:
        check_arguments(chosen.model.name, chosen.model.arguments)
    except ValueError as error:
        raise UserError(f"Invalid {source}. {error}") from None
    return chosen


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> str:
    """A value as part of the name of a folder."""
    text = re.sub(r"[^\w.+-]+", "-", cut(_shown(value), 1000)).strip("-") or "none"
    return text if len(text) <= _LONGEST else text[:_LONGEST]
