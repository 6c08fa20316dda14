"""Damaged configs, recipes and changes to them: accepted, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import STRANGE, mutated, mutated_bytes
from unidet.config import dump_config, from_mapping, load_config, resolve
from unidet.config.files import read_text
from unidet.runs.recipe.config import load_recipe
from unidet.runs.sweep.grid import parse_grid, versions_of

QUICKSTART = load_config("quickstart")
CONFIG = dump_config(QUICKSTART).encode()
RECIPE = read_text("recipe_unidetector_scenes", recipes=True)[0].encode()
TRICKS = b"""a: &a [1, 2, &b {x: 1}]
b: [*a, *a, *b]
<<: {c: !!int 12}
d: !!timestamp 2020-01-02
? [e, f]
: 1_000:30
"""
KEYS = (
    *("train.epochs", "optimizer.lr", "model.name", "model.arguments", "data.scenes.classes"),
    *("data.train.0.images", "data.augmentations.²", "schedule.milestones", "model.arguments.a.b"),
)
VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(STRANGE).map(lambda value: yaml.dump(value, default_flow_style=True)),
    st.sampled_from(("!!int x", "!!bool x", "2020-13-45", ".nan", "[" * 400, "*a", "{[a]: 1}")),
)


@fuzz(mutated_bytes(CONFIG[:600], TRICKS))
def test_bytes_of_a_config(case: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(case)
    with bounded():
        dump_config(load_config(path))


@fuzz(mutated_bytes(RECIPE, TRICKS))
def test_bytes_of_a_recipe(case: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(case)
    with bounded():
        load_recipe(path)


@fuzz(mutated(resolve(QUICKSTART)))
def test_values_of_a_config(case: Any) -> None:
    with bounded():
        dump_config(from_mapping(case))


@fuzz(st.sampled_from(KEYS), VALUES)
def test_changes_and_grids(key: str, value: str) -> None:
    with bounded():
        load_config("quickstart", [f"{key}={value}"])
    with bounded():
        grid = parse_grid([f"{key}={value}"], QUICKSTART)
        if len(grid[key]) < 20:
            versions_of(QUICKSTART, grid, 1)
