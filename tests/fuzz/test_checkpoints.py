"""Damaged and hostile checkpoints, by container, through reading, unwrapping and inspection."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated, mutated_bytes
from unidet.checkpoints.inspection import inspect_checkpoint
from unidet.checkpoints.native import load_checkpoint
from unidet.checkpoints.published import read_native, read_published
from unidet.files.arrays import read_npz
from unidet.weights_convert import read_container, write_jittor, write_safetensors, write_torch
from unidet.weights_convert.containers.torch_legacy import MAGIC
from unidet.weights_convert.pickle_writer import Call, Global, Persistent, PickleWriter

STATE = {
    "conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bn1.running_var": np.ones(2, np.float16),
    "layer4.0.conv1.weight": np.zeros((1, 2), np.float64),
    "fc.weight": np.array(3, np.int64),
}
TREE = {"model": STATE, "epoch": 3, "optimizer": {"state": {0: {"m": np.ones(2)}}}, "log": [1.5]}
METADATA = {
    "format_version": 1,
    "unidet_version": "0",
    "model": {"name": "resnet18", "arguments": {"num_classes": 3}},
    "class_names": ["a", "b", "c"],
    "preprocess": {"mean": [0, 0, 0]},
    "source": {"file": "x.pth"},
}
HOME = Path(tempfile.mkdtemp(prefix="fuzz"))


def _written(write: Any, content: Any, **options: Any) -> bytes:
    path = HOME / "seed"
    write(path, content, overwrite=True, **options)
    return path.read_bytes()


def _legacy() -> bytes:
    def tensor(array: np.ndarray) -> Call:
        flat = array.astype("<f4")
        key = str(len(storages))
        storages.append(flat.tobytes())
        storage = Persistent(
            ("storage", Global("torch", "FloatStorage"), key, "cpu", flat.size, None)
        )
        strides = tuple(step // 4 for step in np.zeros(flat.shape, "<f4").strides)
        hooks = Call(Global("collections", "OrderedDict"), ())
        return Call(
            Global("torch._utils", "_rebuild_tensor_v2"),
            (storage, 0, flat.shape, strides, False, hooks),
        )

    storages: list[bytes] = []
    tree = PickleWriter(2, tensor).dump(TREE)
    system = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
    keys = pickle.dumps([str(i) for i in range(len(storages))], 2)
    raw = b"".join(struct.pack("<q", len(part) // 4) + part for part in storages)
    return MAGIC + pickle.dumps(1001, 2) + system + tree + keys + raw


def _npz() -> tuple[bytes, bytes]:
    packed, plain = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, **STATE)
    np.savez(plain, **STATE)
    return packed.getvalue(), plain.getvalue()


NATIVE = {"unidet": json.dumps(METADATA)}
SEEDS = {
    "safetensors": (_written(write_safetensors, STATE, metadata=NATIVE),),
    "torch_zip": (_written(write_torch, TREE), _written(write_torch, STATE, metadata=NATIVE)),
    "torch_legacy": (_legacy(),),
    "jittor": (_written(write_jittor, TREE),),
    "pickle": (pickle.dumps({"model": STATE, "x": {1, 2}}, 2), pickle.dumps({"model": STATE}, 4)),
    "npz": _npz(),
}


def _read(data: bytes, rescue: bool = False) -> None:
    """Everything that reads a file of somebody else, each to its end or its refusal."""
    path = HOME / "case.bin"
    path.write_bytes(data)
    with bounded():
        read_container(path, rescue=rescue)
    with bounded():
        inspect_checkpoint(path, rescue=rescue).text(table=True)
    with bounded():
        read_published(path, strict=False, rescue=rescue)
    with bounded():
        read_native(path)


def test_the_seeds_are_whole() -> None:
    for kind, seeds in SEEDS.items():
        for seed in seeds:
            (HOME / "whole").write_bytes(seed)
            assert read_container(HOME / "whole")[1].kind == kind
            found = inspect_checkpoint(HOME / "whole")
            assert sorted(name for name, _, _ in found.tensors) == sorted(STATE)


@fuzz(mutated_bytes(*SEEDS["safetensors"]))
def test_safetensors(case: bytes) -> None:
    _read(case)


@fuzz(mutated_bytes(*SEEDS["torch_zip"]), st.booleans())
def test_torch_zip(case: bytes, rescue: bool) -> None:
    _read(case, rescue)


@fuzz(mutated_bytes(*SEEDS["torch_legacy"]), st.booleans())
def test_torch_legacy(case: bytes, rescue: bool) -> None:
    _read(case, rescue)


@fuzz(mutated_bytes(*SEEDS["jittor"]), st.booleans())
def test_jittor(case: bytes, rescue: bool) -> None:
    import hashlib

    _read(case, rescue)
    # With a right checksum the damage reaches the unpickler.
    _read(case[:-28] + hashlib.sha1(case[:-28]).digest() + b"HCAJSLHD", rescue)


@fuzz(mutated_bytes(*SEEDS["pickle"]), st.booleans())
def test_pickle(case: bytes, rescue: bool) -> None:
    _read(case, rescue)


@fuzz(mutated_bytes(*SEEDS["npz"]))
def test_npz(case: bytes) -> None:
    _read(case)
    with bounded():
        read_npz(HOME / "case.bin")


@fuzz(mutated(METADATA))
def test_metadata(case: Any) -> None:
    try:
        text = json.dumps(case).encode()
    except RecursionError:
        text = b"[" * 5000 + b"]" * 5000
    except ValueError:
        text = b'{"format_version": ' + b"9" * 5000 + b"}"
    header = json.dumps({"__metadata__": {"unidet": text.decode("utf-8")}}).encode()
    path = HOME / "case.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with bounded():
        load_checkpoint(path)
    with bounded():
        inspect_checkpoint(path)
    tensor = {"a.b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = json.dumps({"__metadata__": {"unidet": text.decode("utf-8")}, **tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with bounded():
        load_checkpoint(path)
    with bounded():
        inspect_checkpoint(path).text(table=True)


def _header(case: Any) -> bytes:
    header = json.dumps(case, default=str).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 24


@fuzz(
    mutated(
        {
            "__metadata__": {"format": "pt"},
            "a.b": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "c": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
        }
    )
)
def test_safetensors_header(case: Any) -> None:
    try:
        data = _header(case)
    except (ValueError, RecursionError):
        data = struct.pack("<Q", 10000) + b'{"a":' + b"[" * 9995
    _read(data)


_GLOBALS = (
    *("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage"),
    *("torch._utils _rebuild_parameter", "torch Size", "torch device", "numpy dtype"),
    *("numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar", "numpy ndarray"),
    *("_codecs encode", "builtins bytearray", "collections Counter", "builtins set"),
    *("argparse Namespace", "torch.nn Module", "posix system", "builtins eval"),
)


def _atoms() -> st.SearchStrategy[bytes]:
    text = st.text(max_size=4).map(
        lambda t: (
            b"X"
            + struct.pack("<I", len(t.encode("utf-8", "surrogatepass")))
            + t.encode("utf-8", "surrogatepass")
        )
    )
    return st.one_of(
        st.sampled_from(
            (b"N", b"\x88", b"K\x00", b"K\x01", b"J\xff\xff\xff\xff", b")", b"]", b"}")
        ),
        st.sampled_from(
            (b"\x8f", b"\x8a\x08" + b"\x7f" * 8, b"\x8b\x00\x04\x00\x00" + b"\x7f" * 1024)
        ),
        st.sampled_from(
            (b"X\x07\x00\x00\x00storage", b"X\x01\x00\x00\x000", b"C\x02ab", b"X\x02\0\0\0f4")
        ),
        st.sampled_from(_GLOBALS).map(lambda n: b"c" + n.replace(" ", "\n").encode() + b"\n"),
        text,
    )


def _steps() -> st.SearchStrategy[bytes]:
    """Pieces of a pickle; most keep the stack plausible, and many share what is in the memo."""
    kinds = st.sampled_from(("tuple of two", "frozen set", "list", "dictionary", "tuple"))
    doubled = st.tuples(kinds, st.integers(1, 60)).map(_double)
    built = st.sampled_from(
        (b"\x85", b"\x86", b"\x87", b"t", b"l", b"d", b"s", b"u", b"a", b"e", b"\x90", b"\x91")
    )
    calls = st.sampled_from((b"R", b"b", b"\x81", b"\x92", b"Q", b"\x93", b"o"))
    moves = st.sampled_from((b"(", b"(", b"0", b"1", b"2", b"\x94", b"\x94"))
    recall = st.integers(0, 6).map(lambda i: b"h" + bytes([i]))
    return st.one_of(_atoms(), _atoms(), built, calls, moves, recall, doubled)


def _double(drawn: tuple[str, int]) -> bytes:
    """What lies on the stack, put into a container twice, and that one twice, and so on."""
    kind, times = drawn
    links = {
        "tuple of two": b"q\x070h\x07h\x07\x86",
        "frozen set": b"q\x070(h\x07K\x01\x91",
        "list": b"q\x070](h\x07h\x07e",
        "dictionary": b"q\x070}(K\x01h\x07K\x02h\x07u",
        "tuple": b"q\x070(h\x07h\x07t",
    }
    return links[kind] * times


@fuzz(st.lists(_steps(), max_size=40), st.booleans(), st.sampled_from(("zip", "plain")))
def test_pickles_of_drawn_opcodes(case: list[bytes], rescue: bool, container: str) -> None:
    body = b"\x80\x04}X\x01\x00\x00\x00w" + b"".join(case)
    for end in (b".", b"s."):
        data = body + end
        if container == "zip":
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr("archive/data.pkl", data)
                archive.writestr("archive/data/0", b"\0" * 16)
            data = stream.getvalue()
        _read(data, rescue)
