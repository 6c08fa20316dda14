"""Files that want to run code, to eat memory, or that are damaged."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import arrays, same, save_as_torch_does
from unidet.errors import UserError
from unidet.weights_convert import (
    CheckpointError,
    UnsafePickleError,
    read_container,
    write_jittor,
    write_safetensors,
    write_torch,
)
from unidet.weights_convert.containers.pickles import TRAILER
from unidet.weights_convert.containers.torch_legacy import MAGIC


class Touch:
    """Unpickled by Python itself, it creates a file."""

    def __init__(self, marker: Path, how: Callable[..., Any], *arguments: Any) -> None:
        self.marker, self.how, self.arguments = marker, how, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.how, self.arguments


def _torch_zip(path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")


def _torch_legacy(path: Path, pickled: bytes) -> None:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    path.write_bytes(
        MAGIC + pickle.dumps(1001, 2) + pickle.dumps(system, 2) + pickled + pickle.dumps([], 2)
    )


def _jittor(path: Path, pickled: bytes) -> None:
    path.write_bytes(pickled + hashlib.sha1(pickled).digest() + TRAILER)


CONTAINERS = {
    "zip": _torch_zip,
    "legacy": _torch_legacy,
    "jittor": _jittor,
    "pickle": lambda path, pickled: path.write_bytes(pickled),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("rescue", [False, True])
def test_nothing_in_a_file_runs(
    tmp_path: Path, container: str, protocol: int, rescue: bool
) -> None:
    marker = tmp_path / "ran"
    command = f"open({str(marker)!r}, 'w')"
    payloads = {
        "os.system": Touch(marker, os.system, f"touch {marker}"),
        "eval": Touch(marker, eval, command),
        "exec": Touch(marker, exec, command),
        "open": Touch(marker, open, str(marker), "w"),
        "os.open": Touch(marker, os.open, str(marker), os.O_CREAT),
    }
    for payload in payloads.values():
        path = tmp_path / "x.bin"
        CONTAINERS[container](path, pickle.dumps({"w": payload, "n": 1}, protocol))
        if rescue:
            assert read_container(path, rescue=True)[0] == {"n": 1}
        else:
            with pytest.raises(UnsafePickleError, match="Nothing was executed"):
                read_container(path)
        assert not marker.exists()
        # The payload is live: Python's own unpickler runs it.
        if container == "pickle" and not rescue:
            pickle.loads(path.read_bytes())
            assert marker.exists()
            marker.unlink()


def test_the_refusal_names_the_global(tmp_path: Path) -> None:
    _torch_zip(tmp_path / "x.pth", b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00idtR.")
    with pytest.raises(UnsafePickleError) as caught:
        read_container(tmp_path / "x.pth")
    assert caught.value.name == "posix.system"
    assert str(tmp_path / "x.pth") in str(caught.value)


@pytest.mark.parametrize(
    "name", ["torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict", "numpy\ndtype"]
)
@pytest.mark.parametrize("state", [b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x01\x00\x00\x00aK\x01s\x86"])
def test_a_file_cannot_change_the_reader(tmp_path: Path, name: str, state: bytes) -> None:
    _jittor(tmp_path / "x.pkl", b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    with pytest.raises(CheckpointError, match="sets state"):
        read_container(tmp_path / "x.pkl")
    save_as_torch_does(tmp_path / "y.pth", arrays())
    same(read_container(tmp_path / "y.pth")[0], arrays())


def _tensor(storage_numel: int, offset: int, shape: bytes, stride: bytes) -> bytes:
    def number(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    text = b"X\x07\x00\x00\x00storage"
    storage = (
        b"("
        + text
        + b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + number(storage_numel)
        + b"tQ"
    )
    return (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(offset)
        + shape
        + stride
        + b"\x89NtRs."
    )


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (_tensor(4, 1, b"K\x04\x85", b"K\x01\x85"), "reaches value 4"),
        (_tensor(4, -1, b"K\x01\x85", b"K\x01\x85"), "offset -1"),
        (_tensor(4, 0, b"J\xff\xff\xff\xff\x85", b"K\x01\x85"), "shape"),
        (_tensor(4, 0, b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"K\x00K\x00\x86"), "repeats"),
        (_tensor(4, 0, b"K\x04\x85", b"K\x01K\x01\x86"), "strides"),
        (_tensor(2**40, 0, b"K\x04\x85", b"K\x01\x85"), "expected 4398046511104"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo index"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00.", "damaged or cut off"),
        (b"\x80\x02" + b"]" * 50 + b"." + b"x", "Expected a dictionary"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "contains itself"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
    ],
)
def test_absurd_claims_are_refused_cheaply(tmp_path: Path, pickled: bytes, said: str) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    with pytest.raises(CheckpointError, match=said):
        read_container(path)


def test_shared_values_cannot_outgrow_the_file(tmp_path: Path) -> None:
    values = np.zeros(1 << 20, np.float32)
    pickled = io.BytesIO()
    pickled.write(b"\x80\x02}(")
    first = _tensor(values.size, 0, b"J\x00\x00\x10\x00\x85", b"K\x01\x85")
    body = first[first.index(b"ctorch._utils") : -2]
    for i in range(200):
        pickled.write(b"K" + bytes([i]) + body)
    pickled.write(b"u.")
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/data/0", values.tobytes())
    with pytest.raises(CheckpointError, match="outgrow"):
        read_container(tmp_path / "x.pth")


def _write_all(folder: Path) -> dict[str, Path]:
    tree = {"state_dict": arrays(), "meta": {"epoch": 1}}
    paths = {name: folder / f"{name}.bin" for name in ("zip", "legacy", "own", "jittor", "flat")}
    save_as_torch_does(paths["zip"], tree)
    save_as_torch_does(paths["legacy"], tree, legacy=True)
    write_torch(paths["own"], tree)
    write_jittor(paths["jittor"], tree)
    write_safetensors(paths["flat"], arrays())
    paths["pickle"] = folder / "pickle.bin"
    paths["pickle"].write_bytes(pickle.dumps(tree, 2))
    return paths


@pytest.mark.parametrize("name", ["zip", "legacy", "own", "jittor", "flat", "pickle"])
def test_cut_off_files_always_say_so(tmp_path: Path, name: str) -> None:
    content = _write_all(tmp_path)[name].read_bytes()
    offsets = {*range(0, 40, 8), *range(40, len(content), max(1, len(content) // 60))}
    offsets |= {len(content) - n for n in range(1, 30)}
    if name == "jittor":
        offsets.discard(len(content) - 28)  # without its checksum it is a whole plain pickle
    path = tmp_path / "part"
    for offset in sorted(offsets):
        path.write_bytes(content[:offset])
        with pytest.raises(UserError) as caught:
            read_container(path)
            pytest.fail(f"{name} cut at {offset} of {len(content)} was read")
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["zip", "legacy", "own", "jittor", "flat", "pickle"])
@pytest.mark.parametrize("rescue", [False, True])
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str, rescue: bool) -> None:
    content = _write_all(tmp_path)[name].read_bytes()
    draw = random.Random(1)
    path = tmp_path / "damaged"
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            read_container(path, rescue=rescue)
        except UserError as error:
            assert str(path) in str(error)
