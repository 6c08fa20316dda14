"""Files that Jittor itself writes and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import arrays, same, save_as_torch_does
from unidet.backends import available
from unidet.backends.registry import implementation
from unidet.weights_convert import jt2pt, pt2jt, read_container, write_jittor, write_torch


@pytest.fixture(scope="module")
def jt() -> Any:
    """The jittor module."""
    if "jittor" not in available():
        pytest.skip("jittor is not installed")
    implementation("jittor", "ops")
    import sys

    return sys.modules["jittor"]


def _numpy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numpy(item) for key, item in value.items()}
    return value.numpy() if hasattr(value, "numpy") else value


def test_plain_jittor_reads_what_pt2jt_writes(tmp_path: Path, jt: Any) -> None:
    tree = {"state_dict": arrays(), "meta": {"epoch": 3}}
    save_as_torch_does(tmp_path / "a.pth", tree)
    pt2jt(tmp_path / "a.pth", tmp_path / "b.pkl")
    content = jt.load(str(tmp_path / "b.pkl"))
    assert content["meta"] == {"epoch": 3}
    same(content["state_dict"], arrays())


def test_our_metadata_does_not_disturb_jittor(tmp_path: Path, jt: Any) -> None:
    write_jittor(tmp_path / "x.pkl", arrays(), metadata={"unidet": "{}"})
    same(jt.load(str(tmp_path / "x.pkl")), arrays())


@pytest.mark.parametrize("native", [False, True], ids=["arrays", "vars"])
def test_files_of_jittor(tmp_path: Path, jt: Any, native: bool) -> None:
    state = {k: v for k, v in arrays().items() if v.ndim and v.size}
    jt.save({k: jt.array(v) if native else v for k, v in state.items()}, str(tmp_path / "a.pkl"))
    moved = jt2pt(tmp_path / "a.pkl", tmp_path / "b.pth")
    assert moved.source.kind == "jittor"
    content, _ = read_container(tmp_path / "b.pth")
    # Jittor itself narrows 64-bit values of its tensors.
    expected = {k: jt.array(v).numpy() for k, v in state.items()} if native else state
    same(content, expected)


def test_parameters_of_a_jittor_module(tmp_path: Path, jt: Any) -> None:
    layer = jt.nn.Conv(3, 4, 3)
    layer.save(str(tmp_path / "a.pkl"))
    jt2pt(tmp_path / "a.pkl", tmp_path / "b.pth")
    content, _ = read_container(tmp_path / "b.pth")
    same(content, {k: np.asarray(v.numpy()) for k, v in layer.state_dict().items()})


def test_jittor_reads_our_torch_files(tmp_path: Path, jt: Any) -> None:
    state = {"a": arrays()["conv.weight"], "b": np.arange(5, dtype=np.float32)}
    write_torch(tmp_path / "x.pth", {"state_dict": state})
    same(_numpy(jt.load(str(tmp_path / "x.pth")))["state_dict"], state)
