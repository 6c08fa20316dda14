"""From a grid to versions: their product, their names, and what is refused before any trains."""

from __future__ import annotations

from typing import Any

import pytest

from unidet.config import Config, ConfigError, from_mapping
from unidet.errors import UserError
from unidet.runs.sweep.grid import parse_grid, versions_of

MODEL = "retinanet_r18_fpn"


@pytest.fixture
def config() -> Config:
    return from_mapping({"model": {"name": MODEL}, "data": {"format": "scenes"}})


def test_versions_are_the_product_of_the_values(config: Config) -> None:
    grid = parse_grid(["box_loss=l1,giou", "optimizer.lr=1e-5,5e-5"], config)
    assert grid == {"model.arguments.box_loss": ["l1", "giou"], "optimizer.lr": [1e-5, 5e-5]}
    versions = versions_of(config, grid, 2)
    assert [version.name for version in versions] == [
        "box_loss=l1,lr=1e-05",
        "box_loss=l1,lr=5e-05",
        "box_loss=giou,lr=1e-05",
        "box_loss=giou,lr=5e-05",
    ]
    runs = versions[2].runs
    assert [run.name for run in runs] == [
        "box_loss=giou,lr=1e-05,seed=3407",
        "box_loss=giou,lr=1e-05,seed=3408",
    ]
    assert [run.config.train.seed for run in runs] == [3407, 3408]
    assert all(run.config.optimizer.lr == 1e-5 for run in runs)
    assert runs[0].config.model.arguments == {"box_loss": "giou"}
    assert config.model.arguments == {}


def test_seeds_alone(config: Config) -> None:
    (version,) = versions_of(config, {}, 3)
    assert [run.name for run in version.runs] == ["seed=3407", "seed=3408", "seed=3409"]


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("train.amp=off,bf16", ["off", "bf16"], ["amp=off", "amp=bf16"]),
        ("train.weights=null,a/b.pth", [None, "a/b.pth"], ["weights=null", "weights=a-b.pth"]),
        ("train.freeze=[backbone],[a,b]", [["backbone"], ["a", "b"]], None),
        ("train.weights=a/b,a:b", ["a/b", "a:b"], ["weights=a-b", "weights=a-b,1"]),
    ],
)
def test_values_are_yaml_and_names_fit_folders(
    config: Config, text: str, expected: list[Any], names: list[str] | None
) -> None:
    grid = parse_grid([text], config)
    assert list(grid.values()) == [expected]
    found = [version.name for version in versions_of(config, grid, 1)]
    assert len(set(found)) == 2 and not any("/" in name for name in found)
    assert names is None or found == names


def test_keys_that_end_alike_are_told_in_full(config: Config) -> None:
    grid = parse_grid(["data.batch_size=1", "evaluation.batch_size=2"], config)
    (version,) = versions_of(config, grid, 1)
    assert version.name == "data.batch_size=1,evaluation.batch_size=2"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["box_los=l1"], r"Unknown key `box_los` in --grid .* Did you mean 'box_loss'"),
        (["lr=1e-4"], r"Unknown key `lr`.* Did you mean 'optimizer.lr'"),
        (["class_names=[a]"], "model.arguments.class_names and data.class_names"),
        (["optimizer=adamw"], "Unknown key `optimizer`"),
        (["train.seed=1,2"], "--repeat N"),
        (["box_loss"], "Expected KEY=v1,v2"),
        (["box_loss="], "Expected KEY=v1,v2"),
        (["=1"], "Expected KEY=v1,v2"),
        (["box_loss=[l1"], "Invalid YAML"),
        (["box_loss=l1,l1"], "Expected different values"),
        (["optimizer.lr=1e-4,0.0001"], "Expected different values"),
        (["box_loss=l1", "model.arguments.box_loss=giou"], "Expected each key once"),
    ],
)
def test_a_bad_grid_is_refused(config: Config, texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_grid(texts, config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lrr=1", r"Unknown key `optimizer.lrr` in version lrr=1. Did you mean 'lr'"),
        ("train.epochs=2,0", r"`train.epochs` in version epochs=0"),
        ("box_loss=l1,gIou", r"version box_loss=gIou.*Did you mean 'giou'"),
        ("model.arguments.prio=1", r"version prio=1.*Did you mean 'prior'"),
        ("model.name=retinanet_r18_fpn,retinanet_r17_fpn", "version name=retinanet_r17_fpn"),
    ],
)
def test_every_version_is_checked_and_the_bad_one_named(
    config: Config, text: str, message: str
) -> None:
    grid = parse_grid([text], config)
    with pytest.raises(UserError, match=message):
        versions_of(config, grid, 1)
