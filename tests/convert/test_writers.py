"""Our files in other readers, and files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import pickle
import resource
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import arrays, same, save_as_torch_does
from unidet.errors import RunFailedError, UserError
from unidet.weights_convert import (
    CheckpointError,
    digest,
    jt2pt,
    pt2jt,
    read_container,
    write_jittor,
    write_safetensors,
    write_torch,
)

META: dict[str, Any] = {
    "CLASSES": ("cat", "dög"),
    "epoch": 3,
    "iterations": 2**40,
    "negative": -(2**70),
    "lr": 0.1,
    "nothing": None,
    "yes": True,
    "list": [1, [2, {}]],
    "bytes": b"\x00\xff",
    3: "number as key",
}
WRITERS: dict[str, Callable[..., None]] = {
    "x.pth": write_torch,
    "x.pkl": write_jittor,
    "x.safetensors": write_safetensors,
}


@pytest.mark.parametrize("name", ["x.pth", "x.pkl"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    tree = {"state_dict": arrays(), "meta": META}
    WRITERS[name](tmp_path / name, tree, metadata={"unidet": '{"ü": 1}'})
    content, info = read_container(tmp_path / name)
    assert content["meta"] == META
    assert info.metadata == {"unidet": '{"ü": 1}'}
    same(content["state_dict"], arrays())


@pytest.mark.parametrize("mmap", [False, True])
def test_plain_torch_reads_our_files(tmp_path: Path, mmap: bool) -> None:
    torch = pytest.importorskip("torch")
    tree = {"state_dict": arrays(), "meta": META}
    write_torch(tmp_path / "x.pth", tree, metadata={"unidet": "{}"})
    content = torch.load(tmp_path / "x.pth", weights_only=True, mmap=mmap)
    assert content["meta"] == META
    same({k: v.numpy() for k, v in content["state_dict"].items()}, arrays())


def test_records_are_aligned_and_sound(tmp_path: Path) -> None:
    write_torch(tmp_path / "x.pth", arrays())
    content = (tmp_path / "x.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            header = content[entry.header_offset :][:30]
            names = int.from_bytes(header[26:28], "little")
            extra = int.from_bytes(header[28:30], "little")
            start = entry.header_offset + 30 + names + extra
            assert start % 64 == 0


def test_plain_pickle_reads_our_jittor_files(tmp_path: Path) -> None:
    write_jittor(tmp_path / "x.pkl", {"w": arrays(), "meta": META}, metadata={"unidet": "{}"})
    content = (tmp_path / "x.pkl").read_bytes()
    assert content.endswith(b"HCAJSLHD")
    assert hashlib.sha1(content[:-28]).digest() == content[-28:-8]
    tree = pickle.loads(content[:-28])
    assert tree["meta"] == META
    same(tree["w"], arrays())


def test_the_same_content_gives_the_same_file(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name, arrays())
        first = (tmp_path / name).read_bytes()
        write(tmp_path / name, arrays(), overwrite=True)
        assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_to_jittor_and_back(tmp_path: Path, legacy: bool, wrapper: str | None) -> None:
    state = arrays()
    tree = {wrapper: state, "meta": {"epoch": 3}} if wrapper else state
    save_as_torch_does(tmp_path / "a.pth", tree, legacy=legacy)
    moved = pt2jt(tmp_path / "a.pth", tmp_path / "b.pkl")
    assert (moved.kind, moved.tensors) == ("jittor", len(state))
    jt2pt(tmp_path / "b.pkl", tmp_path / "c.pth")
    content, info = read_container(tmp_path / "c.pth")
    assert info.kind == "torch_zip"
    same(content[wrapper] if wrapper else content, state)
    assert not wrapper or content["meta"] == {"epoch": 3}


def test_safetensors_hold_the_flat_state(tmp_path: Path) -> None:
    save_as_torch_does(tmp_path / "a.pth", {"state_dict": arrays(), "meta": {"epoch": 3}})
    moved = pt2jt(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert moved.notes == [
        "peeled off: state_dict",
        "left out, not part of the weights: meta",
    ]
    same(read_container(tmp_path / "b.safetensors")[0], arrays())
    jt2pt(tmp_path / "b.safetensors", tmp_path / "c.pth")
    same(read_container(tmp_path / "c.pth")[0], arrays())


def test_the_wrong_direction_is_explained(tmp_path: Path) -> None:
    write_jittor(tmp_path / "a.pkl", arrays())
    write_torch(tmp_path / "a.pth", arrays())
    with pytest.raises(CheckpointError, match="jt2pt"):
        pt2jt(tmp_path / "a.pkl", tmp_path / "b.pkl")
    with pytest.raises(CheckpointError, match="pt2jt"):
        jt2pt(tmp_path / "a.pth", tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"ends in \.pkl or \.safetensors"):
        pt2jt(tmp_path / "a.pth", tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="no suffix"):
        pt2jt(tmp_path / "a.pth", tmp_path / "b")


def test_equal_digests_mean_equal_arrays() -> None:
    value = np.arange(6, dtype=np.float32)
    others = [
        value.reshape(2, 3),
        value.astype(np.float64),
        value.view(np.int32),
        np.array([0, 1, 2, 3, 4, 6], np.float32),
    ]
    assert digest(value) == digest(np.arange(12, dtype=np.float32)[:6])
    assert digest(value) not in [digest(other) for other in others]


@pytest.mark.parametrize("name", WRITERS)
def test_files_are_not_replaced_unasked(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="which exists"):
        WRITERS[name](path, arrays())
    assert path.read_bytes() == b"precious"
    WRITERS[name](path, arrays(), overwrite=True)
    assert read_container(path)[0]
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_impossible_destinations(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="does not exist"):
        WRITERS[name](tmp_path / "no" / name, arrays())
    with pytest.raises(UserError, match="folder"):
        WRITERS[name](tmp_path, arrays())


@contextmanager
def _full_disk(limit: int) -> Iterator[None]:
    """The system refuses to let any file grow beyond ``limit`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, name: str, existing: bool) -> None:
    path = tmp_path / name
    if existing:
        path.write_bytes(b"precious")
    content = {"x": np.ones(100_000, np.float32)}
    with _full_disk(50_000), pytest.raises(RunFailedError, match="Could not write"):
        WRITERS[name](path, content, overwrite=True)
    assert [item.name for item in tmp_path.iterdir()] == ([name] if existing else [])
    assert not existing or path.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["x.pth", "x.pkl"])
def test_foreign_values_are_refused_before_writing(tmp_path: Path, name: str) -> None:
    with pytest.raises(TypeError, match="Received object"):
        WRITERS[name](tmp_path / name, {"x": object()})
    with pytest.raises(CheckpointError, match="Received"):
        WRITERS[name](tmp_path / name, {"x": np.array([None], object)})
    assert not list(tmp_path.iterdir())
