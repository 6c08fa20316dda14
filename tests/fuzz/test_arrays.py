"""NumPy files: damaged, impossible and packed ones."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated_bytes
from unidet.errors import UserError
from unidet.files.arrays import read_npy, read_npz

HOME = Path(tempfile.mkdtemp(prefix="fuzz"))
STATE = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "x": np.array(3)}


def _npy() -> tuple[bytes, ...]:
    seeds = []
    for array in (np.zeros((2, 3), np.float16), np.asfortranarray(np.ones((2, 3))), np.array("x")):
        stream = io.BytesIO()
        np.save(stream, array)
        seeds.append(stream.getvalue())
    return tuple(seeds)


@fuzz(mutated_bytes(*_npy()))
def test_npy(case: bytes) -> None:
    (HOME / "case.npy").write_bytes(case)
    with bounded():
        read_npy(HOME / "case.npy")


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
