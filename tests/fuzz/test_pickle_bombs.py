"""Pickles that are small and would take forever, or all memory."""

from __future__ import annotations

import pickletools
import tempfile
from pathlib import Path

import pytest

from tests.fuzz.harness import bounded
from unidet.checkpoints.inspection import inspect_checkpoint
from unidet.weights_convert import read_container

HOME = Path(tempfile.mkdtemp(prefix="fuzz"))


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
    "a million sets": _chain(b"N", b"", b"0" + b"\x8f" * 1_000_000, 0),
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
        if not name.startswith(("a claim", "a million")):
            assert sum(1 for _ in pickletools.genops(data)) > 3, name
