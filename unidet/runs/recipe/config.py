"""What a recipe file holds: two runs, the data that they share, and how results are scored."""

# ruff: noqa: RUF009 (`option` makes a dataclass field)

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unidet.config import Config, ConfigError, from_mapping, load_config, read_text, resolve
from unidet.config.build import build
from unidet.config.files import apply_override
from unidet.config.formats import annotation_formats
from unidet.config.options import option
from unidet.config.yaml_io import parse
from unidet.evaluation.proposals import LIMITS
from unidet.files.shown import cut, shown


@dataclass(frozen=True)
class SetConfig:
    """One annotated set of images; relative paths start at ``root``."""

    annotations: str = option(doc="annotation file, or the list of a VOC split")
    embeddings: str = option(doc="text embeddings of the classes (.npy)")
    images: str = option("", "folder of the images")
    frequencies: str = option("", "images of each class (_cat_info.json); training data only")
    format: str = option("coco", "form of the annotations", choices=annotation_formats)


@dataclass(frozen=True)
class StageConfig:
    """A run; its data and the start of its weights come from the recipe."""

    config: str = option(doc="YAML file or name of a shipped config")
    weights: str | None = option(None, "checkpoint to start from; none: that of the config")
    set: tuple[str, ...] = option((), "changes to the config, such as train.epochs=4")


@dataclass(frozen=True)
class ProposalConfig:
    """Which boxes of the first stage the second one sees."""

    score_threshold: float = option(0.0, "least score of a box", low=0, high=1)
    batch_size: int = option(1, "images at a time", low=1)


@dataclass(frozen=True)
class ScoringConfig:
    """How the second stage scores the test set."""

    beta: float | None = option(
        0.3, "exponent of the class probability beside the proposal's score", low=0, high=1
    )
    gamma: float = option(0.6, "exponent of the class prior (calibration)", low=0)
    max_proposals: int | None = option(100, "best proposals of an image; none: all", low=1)
    max_detections: int | None = option(
        None, "most detections of an image; none: 100, with LVIS's metrics 300", low=1
    )
    batch_size: int = option(1, "images at a time", low=1)
    recall: tuple[int, ...] = option(LIMITS, "numbers of proposals at which recall is told", low=1)


@dataclass(frozen=True)
class ScenesConfig:
    """A set of generated scenes, made before the first run, with vectors of its names."""

    name: str = option(doc="folder under the root")
    count: int = option(doc="number of pictures", low=1)
    height: int = option(96, "in pixels", low=64)
    width: int = option(96, "in pixels", low=64)
    seed: int = option(0, "of the series", low=0)
    start: int = option(0, "first picture of the series", low=0)
    max_objects: int = option(3, "most objects in a picture", low=1)
    shapes: tuple[str, ...] = option((), "none: all six")
    colours: tuple[str, ...] = option((), "with them a class is a colour and a shape")
    without: tuple[str, ...] = option((), "classes that never occur")
    dim: int = option(64, "length of a text-like vector", low=2)


@dataclass(frozen=True)
class Recipe:
    """UniDetector's recipe (Wang et al. 2023): proposals and their names are learnt apart."""

    stage1: StageConfig = option(doc="the run that finds objects")
    stage2: StageConfig = option(doc="the run that names them")
    train: tuple[SetConfig, ...] = option(doc="the training sets, each with its own classes")
    test: SetConfig = option(doc="the set whose classes are to be found")
    root: str = option("", "where relative paths start; none: the folder data of the work dir")
    proposals: ProposalConfig = option(factory=ProposalConfig, doc="the boxes handed over")
    scoring: ScoringConfig = option(factory=ScoringConfig, doc="the scores of the test set")
    scenes: tuple[ScenesConfig, ...] = option((), "generated sets, for a trial without downloads")


def load_recipe(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe and applies overrides.

    Args:
        name_or_path: a YAML file, or the bare name of a shipped one.
        overrides: texts such as ``"scoring.gamma=0.3"``, the values in YAML.

    Raises:
        ConfigError: one line that names the key, the file, what was expected and received.
    """
    text, origin = read_text(name_or_path, recipes=True)
    values = parse(text, origin)
    values = {} if values is None else values
    recipe = build(Recipe, values, origin)
    values = copy.deepcopy(values)
    for override in overrides:
        origin = f"--set {cut(override, 200)}"
        apply_override(values, override, origin)
        recipe = build(Recipe, values, origin)
    _check(recipe, origin)
    return recipe


def _check(recipe: Recipe, origin: str) -> None:
    names = [scenes.name for scenes in recipe.scenes]
    if len(set(names)) < len(names) or any(Path(name).name != name for name in names):
        raise ConfigError(
            f"Invalid value for `scenes` in {origin}. Expected different names of folders. "
            f"Received {shown(names)}."
        )
    if not recipe.train:
        raise ConfigError(f"Missing key `train` in {origin}. Expected the training sets.")
    if recipe.test.frequencies:
        raise ConfigError(
            f"Invalid value for `test.frequencies` in {origin}. Expected no value, because nothing "
            f"is learnt from the test set. Received {shown(recipe.test.frequencies)}."
        )
    limits = recipe.scoring.recall
    if not limits or list(limits) != sorted(set(limits)):
        raise ConfigError(
            f"Invalid value for `scoring.recall` in {origin}. Expected rising numbers. "
            f"Received {shown(list(limits))}."
        )


def stage_config(stage: StageConfig, data: dict[str, Any]) -> Config:
    """The run of a stage.

    Args:
        stage: of a recipe.
        data: ``root`` and ``train``, which take the place of the config's own data. There is no
            validation: the test set is measured at the end.

    Raises:
        ConfigError: the config cannot be read, or a change to it makes no sense.
    """
    chosen = load_config(stage.config, stage.set)
    values = resolve(chosen)
    values["data"] |= {"format": "coco", "val": [], "class_names": [], **data}
    if stage.weights:
        values["train"]["weights"] = stage.weights
    return from_mapping(values, stage.config)
