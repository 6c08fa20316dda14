"""Damaged and hostile checkpoints, by container, through reading, unwrapping and inspection."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated, mutated_bytes
from unidet.checkpoint import load_checkpoint
from unidet.files.arrays import read_npy, read_npz
from unidet.importing import read_native, read_published
from unidet.inspection import inspect_checkpoint
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


def _npy() -> tuple[bytes, ...]:
    seeds = []
    for array in (np.zeros((2, 3), np.float16), np.asfortranarray(np.ones((2, 3))), np.array("x")):
        stream = io.BytesIO()
        np.save(stream, array)
        seeds.append(stream.getvalue())
    return tuple(seeds)


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


@fuzz(mutated_bytes(*_npy()))
def test_npy(case: bytes) -> None:
    (HOME / "case.npy").write_bytes(case)
    with bounded():
        read_npy(HOME / "case.npy")


@fuzz(mutated(METADATA))
def test_metadata(case: Any) -> None:
    try:
        text = json.dumps(case).encode()
    except (ValueError, UnicodeError):
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
    except ValueError:
        return
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


def _chain(first: bytes, link: bytes, last: bytes, times: int = 60) -> bytes:
    return b"\x80\x04}X\x01\x00\x00\x00w" + first + b"q\x00" + link * times + last + b"s."


_PAIR = b"0h\x00h\x00\x86q\x00"
BOMBS = {
    "dictionaries": _chain(b"N", b"0}(K\x01h\x00K\x02h\x00uq\x00", b""),
    "lists": _chain(b"N", b"0](h\x00h\x00eq\x00", b""),
    "tuples": _chain(b"N", _PAIR, b""),
    "a key": _chain(b"N", _PAIR, b"0}h\x00Ns"),
    "keys": _chain(b"N", _PAIR, b"0}(h\x00Nu"),
    "a dictionary of marks": _chain(b"N", _PAIR, b"0(h\x00Nd"),
    "a member": _chain(b"N", _PAIR, b"0\x8f(h\x00\x90"),
    "a frozen member": _chain(b"N", _PAIR, b"0(h\x00\x91"),
    "frozen sets": _chain(b"N", b"0(h\x00K\x01\x91q\x00", b""),
    "a key of a call": _chain(b"N", _PAIR, b"0ccollections\nOrderedDict\n](h\x00N\x86e\x85R"),
    "a storage's key": _chain(
        b"N",
        _PAIR,
        b"0X\x07\0\0\0storagectorch\nFloatStorage\nh\x00NK\x01tQ".replace(b"0X", b"0(X"),
    ),
    "a device": _chain(b"N", _PAIR, b"0ctorch\ndevice\nh\x00\x85R"),
    "a shape": _chain(b"N", _PAIR, b"0ctorch\nSize\nh\x00\x85R"),
    "a key of a size": _chain(b"N", _PAIR, b"0}ctorch\nSize\nh\x00\x85RNs"),
    "a dtype": _chain(b"N", _PAIR, b"0cnumpy\ndtype\nh\x00\x85R"),
    "settings": _chain(b"N", b"0cargparse\nNamespace\n)R}X\x01\0\0\0ah\x00sbq\x00", b""),
    "deep lists": _chain(b"]", b"]", b"a" * 0, 100_000),
    "deep tuples": _chain(b"N", b"\x85", b"", 100_000),
    "a deep key": _chain(b"N", b"\x85", b"q\x01}h\x01Ns", 100_000),
    "a huge integer": _chain(b"\x8b\x40\x42\x0f\x00" + b"\x7f" * 1_000_000, b"", b""),
    "a huge key": _chain(b"}\x8b\x40\x42\x0f\x00" + b"\x7f" * 1_000_000 + b"Ns", b"", b""),
    "a claim of a long integer": _chain(b"\x8b\xff\xff\xff\x7f", b"", b""),
    "a claim of bytes": _chain(b"\x8e" + b"\xff" * 7 + b"\x00", b"", b""),
    "a claim of a bytearray": _chain(b"\x96" + b"\xff" * 7 + b"\x00", b"", b""),
    "a memo far away": _chain(b"Nr\xff\xff\xff\x7f", b"", b""),
    "a list in itself": _chain(b"]", b"", b"h\x00a"),
    "a dictionary in itself": _chain(b"}", b"", b"K\x01h\x00s"),
    "millions of sets": _chain(b"N", b"", b"0" + b"\x8f" * 4_000_001, 0),
}


@pytest.mark.parametrize("rescue", [False, True])
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, rescue: bool) -> None:
    path = HOME / "bomb.pkl"
    path.write_bytes(BOMBS[name])
    with bounded(seconds=10):
        read_container(path, rescue=rescue)
    with bounded(seconds=10):
        inspect_checkpoint(path, rescue=rescue)


def test_the_bombs_are_pickles() -> None:
    for name, data in BOMBS.items():
        if not name.startswith(("a claim", "millions")):
            assert sum(1 for _ in pickletools.genops(data)) > 3, name


def _archive(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def _array(header: str, rest: bytes = b"\0" * 8, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + rest


_HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}"
BAD_ARRAYS = {
    "truncated header": _array(_HEADER.format("'<f4'", "(2,)"))[:20],
    "cut off": _array(_HEADER.format("'<f4'", "(3,)")),
    "impossible shape": _array(_HEADER.format("'<f4'", "(1000000, 1000000)")),
    "overflowing shape": _array(_HEADER.format("'<f4'", f"({2**32}, {2**32})")),
    "empty and huge": _array(_HEADER.format("'<f4'", f"(0, {2**62}, {2**62})")),
    "negative shape": _array(_HEADER.format("'<f4'", "(-1,)")),
    "shape of text": _array(_HEADER.format("'<f4'", "('a',)")),
    "not a literal": _array("__import__('os').system('true')"),
    "no dictionary": _array("3"),
    "deep header": _array("(" * 9000),
    "version 9": _array(_HEADER.format("'<f4'", "(2,)"), version=b"\x09\x00"),
    "objects": _array(_HEADER.format("'|O'", "(1,)")),
    "records": _array(_HEADER.format("[('a', '<f4')]", "(1,)")),
    "nothing many times": _array(_HEADER.format("'|S0'", "(1000000000000,)")),
    "unknown dtype": _array(_HEADER.format("'<q9'", "(1,)")),
    "no magic": b"hello" * 9,
    "empty": b"",
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_are_refused(name: str) -> None:
    from unidet.errors import UserError

    (HOME / "x.npy").write_bytes(BAD_ARRAYS[name])
    with bounded(), pytest.raises(UserError, match="cannot be read"):
        read_npy(HOME / "x.npy")
    (HOME / "x.npz").write_bytes(_archive([("a.npy", BAD_ARRAYS[name])]))
    with bounded(), pytest.raises(UserError, match="cannot be read"):
        read_npz(HOME / "x.npz")


def _patched(data: bytes, local: int, central: int, value: bytes) -> bytes:
    at = data.index(b"PK\x01\x02")
    changed = bytearray(data)
    changed[local : local + len(value)] = value
    changed[at + central : at + central + len(value)] = value
    return bytes(changed)


def _bad_archives() -> dict[str, bytes]:
    whole = _archive([("a.npy", _array(_HEADER.format("'<f4'", "(2,)")))])
    crc = bytearray(whole)
    crc[14] ^= 1
    crc[whole.index(b"PK\x01\x02") + 16] ^= 1
    return {
        "encrypted": _patched(whole, 6, 8, b"\x01\x00"),
        "unknown compression": _patched(whole, 8, 10, b"\x63\x00"),
        "LZMA": _archive([("a.npy", _array("x"))], zipfile.ZIP_LZMA),
        "checksum": bytes(crc),
        "bomb": _archive([("a.npy", b"\0" * 300_000_000)]),
        "no array": _archive([("a.npy", _array(_HEADER.format("'<f4'", "(2,)"))), ("b", b"x")]),
        "cut off": whole[:-5],
    }


@pytest.mark.parametrize("name", _bad_archives())
def test_bad_archives_are_refused(name: str) -> None:
    from unidet.errors import UserError

    (HOME / "y.npz").write_bytes(_bad_archives()[name])
    with bounded(), pytest.raises(UserError, match="cannot be read"):
        read_npz(HOME / "y.npz")


def test_arrays_are_read_as_numpy_wrote_them() -> None:
    arrays = {**STATE, "../up": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "t": np.array("é")}
    for write in (np.savez, np.savez_compressed):
        write(HOME / "z.npz", **arrays)
        found = read_npz(HOME / "z.npz")
        assert sorted(found) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            np.save(HOME / "z.npy", array)
            np.testing.assert_array_equal(read_npy(HOME / "z.npy"), array)
