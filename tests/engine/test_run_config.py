"""Configs: every mistake is one line that names key, place, expectation and what was received."""

from __future__ import annotations

from pathlib import Path

import pytest

from unidet.config import (
    Config,
    ConfigError,
    DataConfig,
    ModelConfig,
    dump_config,
    from_mapping,
    keys,
    load_config,
    reference,
    resolve,
    shipped,
)
from unidet.config.yaml_io import parse
from unidet.data import Preprocess, create_augmentation
from unidet.engine.schedule import Span, scale
from unidet.models import model_spec

BASE = {"model": {"name": "net"}, "data": {"format": "scenes"}}


def with_keys(**changes: object) -> dict[str, object]:
    return {**BASE, **changes}


MISTAKES = [
    ({"optimizer": {"lrr": 1}}, ["`optimizer.lrr`", "Did you mean 'lr'"]),
    ({"lr": 1}, ["`lr`", "Did you mean 'optimizer.lr'"]),
    ({"sheldule": {}}, ["`sheldule`", "Did you mean 'schedule'"]),
    ({"train": {"epochs": "many"}}, ["`train.epochs`", "an integer >= 1", "'many' (str)"]),
    ({"train": {"epochs": 0}}, ["`train.epochs`", "an integer >= 1", "0 (int)"]),
    ({"train": {"epochs": 2.5}}, ["`train.epochs`", "an integer", "2.5 (float)"]),
    ({"train": {"epochs": True}}, ["`train.epochs`", "an integer", "True (bool)"]),
    ({"train": {"epochs": None}}, ["`train.epochs`", "Received nothing"]),
    ({"train": {"amp": "fp8"}}, ["`train.amp`", "one of off, bf16, fp16", "'fp8'"]),
    ({"train": {"freeze": "backbone."}}, ["`train.freeze`", "a list"]),
    ({"train": {"freeze": [1]}}, ["`train.freeze.0`", "a string"]),
    ({"train": {"clip_grad_norm": 0}}, ["`train.clip_grad_norm`", "> 0"]),
    ({"train": {"clip_grad_norm": float("nan")}}, ["`train.clip_grad_norm`", "> 0", "nan"]),
    ({"train": 3}, ["`train`", "a mapping", "3 (int)"]),
    ({"optimizer": {"name": "adamv"}}, ["`optimizer.name`", "Did you mean 'adam"]),
    ({"optimizer": {"betas": [0.9]}}, ["`optimizer.betas`", "a list of 2 values"]),
    ({"optimizer": {"betas": [0.9, 1.0]}}, ["`optimizer.betas`", "below 1"]),
    ({"optimizer": {"name": "adam", "momentum": 0.9}}, ["`optimizer.momentum`", "adam has none"]),
    ({"optimizer": {"name": "sgd", "nesterov": True}}, ["`optimizer.nesterov`", "momentum"]),
    ({"optimizer": {"groups": [{"lr": 1.0}]}}, ["Missing key `optimizer.groups.0.match`"]),
    ({"data": {"format": "yolo"}}, ["`data.format`", "one of coco, lvis, voc, scenes"]),
    ({"data": {"format": "coco"}}, ["Missing key `data.train`"]),
    ({"data": {"train": {"images": "x"}}}, ["Missing key `data.train.0.annotations`"]),
    ({"schedule": {"kind": "multistep"}}, ["`schedule.milestones`", "rising epochs"]),
    (
        {"schedule": {"kind": "multistep", "milestones": [8, 4]}},
        ["`schedule.milestones`", "[8, 4]"],
    ),
    ({"schedule": {"milestones": [8]}}, ["`schedule.kind`", "multistep"]),
    ({"schedule": {"warmup_steps": 5, "warmup_ratio": 0.1}}, ["`schedule.warmup_ratio`"]),
    ({"schedule": {"kind": "onecycle", "warmup_steps": 5}}, ["onecycle has its own rise"]),
    (
        {"train": {"best_metric": "val_loss_bbox", "best_mode": "max"}},
        ["`train.best_mode`", "auto or min", "less of val_loss_bbox is better", "'max'"],
    ),
    ({"train": {"best_mode": "min"}}, ["`train.best_mode`", "auto or max", "more of AP"]),
    ({"train": {"best_mode": "least"}}, ["`train.best_mode`", "one of auto, max, min"]),
    (
        {
            "train": {"load_best_at_end": True},
            "data": {"format": "coco", "train": {"annotations": "a.json"}},
        },
        ["`train.load_best_at_end`", "without `data.val`"],
    ),
    ({"train": {"smoothing": 1.0}}, ["`train.smoothing`", ">= 0 and <= 0.999"]),
    ({"train": {"expect_trainable": 0}}, ["`train.expect_trainable`", ">= 1"]),
]


@pytest.mark.parametrize(("change", "words"), MISTAKES, ids=lambda v: str(v)[:60])
def test_mistakes_are_explained_in_one_line(change: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(with_keys(**change), "recipe.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert "in recipe.yaml" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs=abc", ["`train.epochs`", "--set train.epochs=abc", "'abc' (str)"]),
        ("train.epoch=1", ["`train.epoch`", "Did you mean 'epochs'"]),
        ("train.epochs", ["key=value", "'train.epochs'"]),
        ("=3", ["key=value"]),
        ("train..epochs=3", ["key=value"]),
        ("train.epochs.x=3", ["`train.epochs`"]),
        ("optimizer.groups.0.lr=1", ["`optimizer.groups`"]),
        ("data.train=[a", ["Invalid YAML in --set data.train=[a"]),
    ],
)
def test_override_mistakes(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(BASE, "recipe.yaml", [override])
    for word in words:
        assert word in str(caught.value)


def test_overrides_reach_every_depth() -> None:
    values = with_keys(optimizer={"groups": [{"match": ["head."], "lr": 1.0}]})
    config = from_mapping(
        values,
        overrides=[
            "optimizer.lr=1e-3",
            "optimizer.groups.0.lr=5e-4",
            "model.arguments.anchors.sizes=[16, 32]",
            "train.amp=off",
            "data.drop_last=true",
            "train.clip_grad_norm=null",
        ],
    )
    assert config.optimizer.lr == 1e-3
    assert config.optimizer.groups[0].lr == 5e-4
    assert config.model.arguments == {"anchors": {"sizes": [16, 32]}}
    assert config.train.amp == "off"
    assert config.data.drop_last is True
    assert config.train.clip_grad_norm is None
    assert values["optimizer"]["groups"][0]["lr"] == 1.0  # the input is left alone


def test_overrides_add_to_an_absent_group_and_reject_a_bad_position() -> None:
    config = from_mapping(BASE, overrides=["schedule.kind=cosine", "schedule.warmup_steps=5"])
    assert (config.schedule.kind, config.schedule.warmup_steps) == ("cosine", 5)
    values = with_keys(optimizer={"groups": [{"match": ["a"]}]})
    with pytest.raises(ConfigError, match="position of one of 1 entries"):
        from_mapping(values, overrides=["optimizer.groups.1.lr=0"])


def test_resolved_config_reads_back_unchanged(tmp_path: Path) -> None:
    values = with_keys(
        model={"name": "net", "arguments": {"sizes": [16, 32], "nested": {"x": 1e-5}}},
        optimizer={"lr": 1e-7, "groups": [{"match": ["a.", "b."], "lr": 1e-9}]},
        train={"amp": "off", "clip_grad_norm": 0.1},
        data={"format": "coco", "train": {"annotations": "a.json", "images": "i"}},
    )
    config = from_mapping(values)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert resolve(config)["data"]["train"][0]["annotations"] == "a.json"


def test_yaml_reads_numbers_and_words_as_written() -> None:
    text = "a: 1e-4\nb: off\nc: true\nd: 1.5\ne: no\nf: 10\ng: -2E3\nh: .5\ni: 1.2.3\nj: .inf"
    assert parse(text, "x") == {
        "a": 1e-4,
        "b": "off",
        "c": True,
        "d": 1.5,
        "e": "no",
        "f": 10,
        "g": -2000.0,
        "h": 0.5,
        "i": "1.2.3",
        "j": float("inf"),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model:\n  name: a\nmodel: {}\n", ["'model'", "twice", "line 3"]),
        ("model: [", ["Invalid YAML", "line 1"]),
        ("model: !!python/object/apply:os.system ['true']", ["Invalid YAML", "line 1"]),
        ("", ["Missing key `model`"]),
        ("- 1", ["a mapping"]),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for word in (*words, str(path)):
        assert word in str(caught.value)


def test_missing_file_suggests_a_shipped_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'quickstart'"):
        load_config("quikstart")
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="Cannot read config"):
        load_config(binary)


@pytest.mark.parametrize("name", shipped())
def test_shipped_configs_load_by_name(name: str) -> None:
    assert load_config(name) == load_config(f"{name}.yaml")


@pytest.mark.parametrize("name", shipped())
def test_shipped_configs_fit_the_library(name: str) -> None:
    config = load_config(name)
    spec = model_spec(config.model.name)
    assert set(config.model.arguments) <= set(spec.accepts)
    arguments = {**spec.defaults, **config.model.arguments}
    if "num_classes" in spec.accepts:
        arguments["num_classes"] = 3
    Preprocess.from_dict(spec.constructor.config_class(**arguments).preprocess)
    for augmentation in config.data.augmentations:
        create_augmentation(augmentation.name, augmentation.arguments)
    span = Span(total=config.train.epochs * 200, per_epoch=200)
    rates = [scale(config.schedule, step, span) for step in range(span.total)]
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert config.data.root == ""


@pytest.mark.parametrize(
    ("metric", "maximise"),
    [
        ("AP", True), ("AR100", True), ("val_loss", False), ("val_loss_bbox", False),
        ("val_class_error", False), ("val_cardinality_error", False),
    ],
)  # fmt: skip
def test_the_direction_of_the_best_metric_follows_its_name(metric: str, maximise: bool) -> None:
    modes = ("auto", "max" if maximise else "min")
    for mode in modes:
        config = from_mapping(with_keys(train={"best_metric": metric, "best_mode": mode}))
        assert config.train.maximise is maximise


def test_every_key_is_documented() -> None:
    for path, _, doc in keys(Config):
        assert doc, path
    assert "optimizer.lr " in reference()


def test_configs_made_in_code_have_the_same_defaults() -> None:
    made = Config(ModelConfig("net"), DataConfig(format="scenes"))
    assert made == from_mapping(BASE)
