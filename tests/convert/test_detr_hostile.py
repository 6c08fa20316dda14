"""DETR files that are damaged or contradict themselves: one clear error, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.detr_files import huggingface_folder, native, published
from unidet.checkpoints.published import read_published
from unidet.cli.main import main
from unidet.weights_convert import CheckpointError, read_container, write_torch

State = dict[str, np.ndarray]
_QUERY = "model.decoder.layers.1.encoder_attn.q_proj.weight"


def _without(state: State) -> None:
    del state[_QUERY]


def _misshapen(state: State) -> None:
    state["model.decoder.layers.0.fc2.weight"] = np.zeros((16, 13), np.float32)


def _contradictory(state: State) -> None:
    state[_QUERY] = np.zeros((32, 16), np.float32)


def _without_layer(state: State) -> None:
    for key in [key for key in state if key.startswith("model.decoder.layers.0.")]:
        del state[key]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without, ("1 missing", _QUERY)),
        (_misshapen, ("1 mismatched", "fc2.weight", "received (16, 13)")),
        (_contradictory, ("1 mismatched", _QUERY, "expected (16, 16), received (32, 16)")),
        (_without_layer, ("Expected the tensor transformer.decoder.layers.0.linear1.weight",)),
    ],
)
def test_tensors_that_do_not_fit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[State], None],
    said: tuple[str, ...],
) -> None:
    state = published("huggingface_detr", native())
    change(state)
    folder = huggingface_folder(tmp_path / "hub", state)
    out = tmp_path / "out.safetensors"
    assert main(["convert", "import", str(folder), str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not out.exists()
    assert all(part in error for part in said), error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_queries": 50}, "`num_queries` 5, as the tensors have. Received 50"),
        ({"d_model": 256}, "`d_model` 16, as the tensors have. Received 256"),
        ({"decoder_layers": "2"}, "a whole number for `decoder_layers`. Received '2'"),
        ({"encoder_attention_heads": 5}, "a divisor of 16 for `encoder_attention_heads`"),
        ({"encoder_attention_heads": 0}, "a whole number above 0 for `encoder_attention_heads`"),
        ({"decoder_attention_heads": 2}, "`decoder_attention_heads` 4, as in the encoder"),
        ({"dropout": 1.0}, "less than 1 for `dropout`. Received 1.0"),
        ({"eos_coefficient": 0}, "a number above 0 for `eos_coefficient`"),
        ({"giou_cost": float("nan")}, "0 or more for `giou_cost`. Received nan"),
        ({"auxiliary_loss": 1}, "true or false for `auxiliary_loss`"),
        ({"dilation": "no"}, "true or false for `dilation`"),
        ({"model_type": "yolos"}, "`model_type` 'detr'. Received 'yolos'"),
        ({"position_embedding_type": "learned"}, "`position_embedding_type` 'sine'"),
        ({"backbone": "resnet50"}, "`backbone` resnet18, as the tensors have"),
        ({"id2label": {"0": "cat"}}, "3 entries of `id2label`, as the tensors have. Received 1"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "each label from 0 in `id2label`"),
    ],
)
def test_configs_that_contradict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    folder = huggingface_folder(
        tmp_path / "hub", published("huggingface_detr", native()), **changes
    )
    out = tmp_path / "out.safetensors"
    assert main(["convert", "import", str(folder), str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error and "config.json" in error and str(folder) in error
    assert error.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"Config is not JSON: .*config\.json"),
        ("[1]", r"config\.json\. Expected a JSON object\. Received list"),
        ("", r"Config is empty: .*config\.json"),
        ('{"a": 1', r"Config is not JSON: .*config\.json"),
        ("\ufeff{", r"Config is not JSON: .*config\.json"),
        ("[" * 100_000, r"Config is nested too deep: .*config\.json"),
        ('{"a": ' + "9" * 5000 + "}", r"Config holds an integer of thousands of digits: "),
    ],
    ids=["cut", "list", "empty", "cut-later", "mark", "deep", "digits"],
)
def test_damaged_configs(tmp_path: Path, content: str, said: str) -> None:
    folder = huggingface_folder(tmp_path / "hub", published("huggingface_detr", native()))
    (folder / "config.json").write_text(content, encoding="utf-8")
    for path in (folder, folder / "model.safetensors"):
        with pytest.raises(CheckpointError, match=said):
            read_published(path)
    # Beside another kind of file it is nobody's business.
    write_torch(folder / "a.pth", {"model": published("facebook_detr", native())})
    assert read_published(folder / "a.pth").report.ok


def test_files_cut_off(tmp_path: Path) -> None:
    folder = huggingface_folder(tmp_path / "hub", published("huggingface_detr", native()))
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        weights.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            read_published(folder)


def test_folders_without_whole_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Received a folder"):
        read_published(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(CheckpointError, match="Received weights in several"):
        read_published(tmp_path)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"num_queries": 100}, "`num_queries` 5, as the tensors have"),
        ({"nheads": 3}, "a divisor of 16 for `nheads`"),
        ({"pre_norm": True}, "`pre_norm` False"),
        ({"position_embedding": "learned"}, "`position_embedding` 'sine' or 'v2'"),
        ({"backbone": "resnet101"}, "`backbone` resnet18"),
    ],
)
def test_args_that_contradict(tmp_path: Path, args: dict[str, Any], said: str) -> None:
    path = tmp_path / "a.pth"
    write_torch(path, {"model": published("facebook_detr", native()), "args": args})
    with pytest.raises(CheckpointError) as caught:
        read_published(path)
    assert said in str(caught.value) and f"args of {path}" in str(caught.value)


def test_a_namespace_is_read_as_its_settings_and_cannot_do_more(tmp_path: Path) -> None:
    import argparse
    import pickle

    path = tmp_path / "x.pkl"
    for protocol in (2, 4):
        tree = {"args": argparse.Namespace(lr=1e-4, names=["a"], inner={"b": (1, None)})}
        path.write_bytes(pickle.dumps(tree, protocol))
        content, info = read_container(path)
        assert content == {"args": {"lr": 1e-4, "names": ["a"], "inner": {"b": (1, None)}}}
        assert not info.notes
    # State set on the class instead of on an object; a state that is no dictionary.
    start = b"\x80\x02}X\x01\x00\x00\x00acargparse\nNamespace\n"
    path.write_bytes(start + b"}X\x01\x00\x00\x00bK\x01sbs.")
    with pytest.raises(CheckpointError, match="damaged"):
        read_container(path)
    path.write_bytes(start + b")\x81K\x07bs.")
    content, info = read_container(path)
    assert content == {} and "argparse.Namespace" in info.notes[0]
    path.write_bytes(pickle.dumps({"args": argparse.Namespace(lr=1)}, 2))
    assert read_container(path)[0] == {"args": {"lr": 1}}
