"""Checkpoints as training tools write them: the state is found, whatever lies around it."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import same
from unidet.checkpoints.inspection import inspect_checkpoint
from unidet.weights_convert import (
    CheckpointError,
    find_state,
    jt2pt,
    pt2jt,
    read_container,
    write_jittor,
    write_torch,
)
from unidet.weights_convert.families import read_state

State = dict[str, np.ndarray]


def classifier(value: float = 0.0) -> State:
    """The tensors by which a ResNet of torchvision is known, and one more."""
    return {
        "conv1.weight": np.full((64, 3, 7, 7), value, np.float32),
        "bn1.running_var": np.full(64, value, np.float32),
        "layer4.0.conv1.weight": np.full((2, 2), value, np.float32),
        "fc.weight": np.full((3, 2), value, np.float32),
    }


def put(prefix: str, state: State) -> State:
    return {prefix + name: array for name, array in state.items()}


OPTIMIZER = {"state": {0: {"exp_avg": np.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
NAMED_OPTIMIZER = {"exp_avg": put("", classifier(9))}
STATE = classifier()
EMA = classifier(1)
#: Content of a file and the value that the right state holds.
ONE: dict[str, Any] = {
    "plain": (STATE, 0),
    "parallel twice": (put("module.module.", STATE), 0),
    "compiled": (put("_orig_mod.", STATE), 0),
    "compiled, parallel, lightning": (put("module._orig_mod.model.", STATE), 0),
    "inside": ({n.replace("layer4.", "layer4._orig_mod."): a for n, a in STATE.items()}, 0),
    "lightning": (
        {"state_dict": put("net.", STATE), "optimizer_states": [OPTIMIZER], "hyper_parameters": {}},
        0,
    ),
    "lightning and a metric": ({"state_dict": {**put("model.", STATE), "ap.x": np.zeros(1)}}, 0),
    "lightning and its average": (
        {"state_dict": {**put("model.", STATE), **put("ema_model.module.", EMA)}},
        0,
    ),
    "averaged": ({"n_averaged": np.array(9), **put("module.", STATE)}, 0),
    "deep": ({"checkpoint": {"run": {"model": put("module.", STATE)}}, "epoch": 3}, 0),
    "in a list": ({"items": [3, {"model": STATE}]}, 0),
    "named optimizer": ({"model": STATE, "optimizer": NAMED_OPTIMIZER}, 0),
    "unknown key, named optimizer": ({"mine": STATE, "optim": NAMED_OPTIMIZER}, 0),
    "history": ({"model": STATE, "hist": np.arange(3.0), "best": 0.3}, 0),
    "history, unknown key": ({"mine": STATE, "stats": {"loss": np.arange(3.0)}}, 0),
    "model and average": ({"model": STATE, "model_ema": {"module": EMA, "updates": 9}}, 0),
    "average first": ({"ema_state_dict": put("module.", EMA), "state_dict": STATE}, 0),
    "average alone": ({"ema": {"module": EMA, "updates": 3}}, 1),
    "flat average": ({**STATE, **{"ema_" + n.replace(".", "_"): a for n, a in EMA.items()}}, 0),
    "generator and another": ({"generator": STATE, "discriminator": {"a.b": np.ones(2)}}, 0),
    "random states": ({"model": STATE, "rng": {"torch": np.zeros(9, np.uint8)}}, 0),
    "same state twice": ({"model": STATE, "state_dict": STATE}, 0),
}


@pytest.mark.parametrize("name", ONE)
def test_the_state_is_found(tmp_path: Path, name: str) -> None:
    tree, value = ONE[name]
    write_torch(tmp_path / "x.pth", tree)
    state, _ = read_state(tmp_path / "x.pth")
    same(state.arrays, classifier(value))
    assert inspect_checkpoint(tmp_path / "x.pth").family == "torchvision_resnet"


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"generator": STATE, "teacher": EMA}, ["generator", "teacher"]),
        (
            {"state_dict": {**put("student.", STATE), **put("teacher.", EMA)}},
            ["student", "teacher"],
        ),
        ({"a": {"student": STATE}, "b": {"teacher": EMA}}, ["a.student", "b.teacher"]),
    ],
)
def test_of_several_states_one_is_asked_for(
    tmp_path: Path, tree: dict[str, Any], names: list[str]
) -> None:
    write_torch(tmp_path / "x.pth", tree)
    with pytest.raises(CheckpointError, match="Received several") as caught:
        read_state(tmp_path / "x.pth")
    assert all(name in str(caught.value) for name in names)
    for value, name in enumerate(names):
        same(read_state(tmp_path / "x.pth", state=name)[0].arrays, classifier(value))
    with pytest.raises(CheckpointError, match="Invalid state 'nobody'"):
        read_state(tmp_path / "x.pth", state="nobody")


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        (ONE["model and average"][0], "model_ema.module"),
        (ONE["average first"][0], "ema_state_dict"),
        (ONE["lightning and its average"][0], "ema_model"),
        (ONE["flat average"][0], "ema"),
    ],
)
def test_an_average_is_mentioned_and_can_be_taken(
    tmp_path: Path, tree: dict[str, Any], name: str
) -> None:
    write_torch(tmp_path / "x.pth", tree)
    _, info = read_state(tmp_path / "x.pth")
    assert any(f"an averaged copy (EMA) under {name};" in note for note in info.notes)
    same(read_state(tmp_path / "x.pth", state=name)[0].arrays, EMA)
    pt2jt(tmp_path / "x.pth", tmp_path / "x.pkl", state=name)
    same(read_state(tmp_path / "x.pkl")[0].arrays, EMA)


def test_parts_of_one_model_stay_together() -> None:
    parts = {"backbone": {"conv.weight": np.zeros(2)}, "head": {"weight": np.ones(1)}, "epoch": 3}
    state = find_state({**parts, "neck": {"out.weight": np.ones(3)}})
    assert sorted(state.arrays) == ["backbone.conv.weight", "head.weight", "neck.out.weight"]
    assert state.extras == {"epoch": 3}


def test_what_left_the_state_is_told(tmp_path: Path) -> None:
    write_torch(tmp_path / "x.pth", ONE["lightning and a metric"][0])
    assert "left out, not part of the weights: ap.x" in read_state(tmp_path / "x.pth")[1].notes
    write_jittor(tmp_path / "x.pkl", {"model": put("module.", STATE), "epoch": 1})
    jt2pt(tmp_path / "x.pkl", tmp_path / "y.safetensors")
    same(read_container(tmp_path / "y.safetensors")[0], put("module.", STATE))


def test_plain_values_of_training_tools_do_not_block(tmp_path: Path) -> None:
    import collections
    import datetime
    import pathlib

    beside = {
        "steps": collections.Counter([3, 3]),
        "log": collections.defaultdict(list, a=[1]),
        "when": datetime.datetime(2024, 1, 1),
        "root": pathlib.PurePosixPath("data"),
        "seen": {1, 2},
    }
    for protocol in (2, 4):
        data = pickle.dumps({"epoch": 3, **beside}, protocol)
        with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
            archive.writestr("archive/data.pkl", data)
        content, info = read_container(tmp_path / "x.pth")
        assert content == {"epoch": 3, "steps": {3: 2}, "seen": [1, 2]}
        assert "when (datetime.datetime)" in "".join(info.notes)


def test_advice_of_a_refusal_exists_everywhere(tmp_path: Path) -> None:
    from unidet.cli.main import main

    stream = io.BytesIO(b"\x80\x02}X\x01\x00\x00\x00acmine\nThing\n)Rs.")
    (tmp_path / "x.pkl").write_bytes(stream.getvalue())
    with pytest.raises(CheckpointError, match="unidet convert import --rescue"):
        read_state(tmp_path / "x.pkl")
    assert main(["convert", "inspect", "--rescue", str(tmp_path / "x.pkl")]) == 2
