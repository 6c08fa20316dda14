"""safetensors, Jittor pickles, plain pickles, NumPy archives, and files that are none of these."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.convert.helpers import arrays, same
from unidet.weights_convert import (
    CheckpointError,
    read_container,
    write_jittor,
    write_safetensors,
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_pickles_of_arrays(tmp_path: Path, protocol: int) -> None:
    tree = {
        "model": {**arrays(), "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3))},
        "__author__": "Zoo",
        "scalar": np.float32(1.5),
    }
    tree["model"]["swapped"] = np.arange(3, dtype=">i4")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(tree, protocol))
    content, info = read_container(tmp_path / "x.pkl")
    expected = {**tree["model"], "swapped": np.arange(3, dtype=np.int32)}
    same(content["model"], expected)
    assert (info.kind, content["__author__"], content["scalar"]) == ("pickle", "Zoo", 1.5)


def test_pickles_of_python_2(tmp_path: Path) -> None:
    # {'w': array([1, 2], '<f4')} as Python 2 writes it: bytes are byte strings.
    content = (
        b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x08" + np.array([1, 200], "<f4").tobytes() + b"tbs."
    )
    (tmp_path / "x.pkl").write_bytes(content)
    same(read_container(tmp_path / "x.pkl")[0], {"w": np.array([1, 200], np.float32)})


def test_safetensors_keep_everything(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", arrays(), metadata={"note": "kept"})
    content, info = read_container(tmp_path / "x.safetensors")
    same(content, arrays())
    assert info.kind == "safetensors" and info.metadata["note"] == "kept"


def test_safetensors_with_bfloat16(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    value = torch.randn(2, 3)
    save_file({"a": value.bfloat16(), "b": value}, tmp_path / "x.safetensors")
    content, info = read_container(tmp_path / "x.safetensors")
    same(content, {"a": value.bfloat16().float().numpy(), "b": value.numpy()})
    assert "bfloat16" in info.notes[0]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_archives(tmp_path: Path, save: object) -> None:
    save(tmp_path / "x.npz", **arrays())
    content, info = read_container(tmp_path / "x.npz")
    same(content, arrays())
    assert info.kind == "npz"


def test_numpy_archives_of_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(CheckpointError, match="NumPy archive"):
        read_container(tmp_path / "x.npz")


def test_jittor_checksum(tmp_path: Path) -> None:
    write_jittor(tmp_path / "x.pkl", arrays())
    content = bytearray((tmp_path / "x.pkl").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        read_container(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"", "empty"),
        (b"\x1f\x8b123", "gzip"),
        (b"some words", "starts with"),
        (b"PK\x05\x06" + bytes(18), "starts with"),
        (b"\x80\x04]\x94.", "Expected a dictionary of tensors"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_container(tmp_path / "x.pth")
    assert str(tmp_path / "x.pth") in str(caught.value)


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_container(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="a folder"):
        read_container(tmp_path)
