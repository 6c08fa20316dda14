"""Texts that YAML reads in its own way, or never finishes to read: each is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from unidet.config import ConfigError, dump_config, load_config

BOMB = "a0: &a0 [1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "aliases repeat too many values"),
        ("a: &a [*a]", "within its own anchor"),
        ("? [a, b]\n: 1", "a key is no text"),
        ("1: 2", "a key is no text: '1'"),
        ("train: !!int x", "'x' is no int"),
        ("train: !!bool x", "'x' is no bool"),
        ("train: !!timestamp x", "timestamp"),
        ("train: !!python/object:os.system x", "python/object"),
        ("a: " + "[" * 5000, "nested more than 50 deep"),
        ("a: " + "9" * 6000, "is no int that can be read"),
        ("a: 9223372036854775808", "more than 64 bits"),
        ('a: "\\ud800"', "no text file can hold"),
    ],
)
def test_texts(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.augmentations.².name=x", "position of one of 1 entries"),
        ("train.epochs=2020-13-45", "Expected an integer >= 1"),
        ("optimizer.lr=.inf", "Expected a number >= 0. Received inf"),
        ("optimizer.lr=.nan", "Received nan"),
        ("a." * 500 + "a=1", "Expected key=value"),
    ],
)
def test_changes(change: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", ["data.augmentations=[{name: horizontal_flip}]", change])
    assert words in str(caught.value)


def test_byte_order_mark_and_harmless_aliases(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    plain = dump_config(load_config("quickstart"))
    path.write_bytes(plain.encode("utf-8-sig"))
    assert load_config(path) == load_config("quickstart")
    path.write_text("model: {name: retinanet_r18_fpn}\ndata: {format: &f scenes}\n")
    assert load_config(path).data.format == "scenes"
