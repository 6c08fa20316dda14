"""Writes pickles that name foreign classes, without those classes being installed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Global:
    """A class or function of the reader, by name."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """``function(*arguments)``, followed by ``object.__setstate__(state)`` where state is given."""

    function: Global
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class Persistent:
    """A reference that the reader resolves."""

    pid: tuple[Any, ...]


class PickleWriter:
    """Protocol 2 or 4, for plain values and the records above.

    Args:
        protocol: 2 has no bytes, which are then spelt as encoded text (as Python itself does).
        replace: Turns an array into one of the records above.
    """

    def __init__(self, protocol: int, replace: Callable[[np.ndarray], Any]) -> None:
        self._protocol, self._replace = protocol, replace
        self._parts: list[bytes] = []

    def dump(self, value: Any) -> bytes:
        """The pickle of ``value``.

        Raises:
            TypeError: it holds something other than dictionaries, lists, tuples, text, numbers,
                bytes, None, arrays and the records above.
        """
        self._parts = [b"\x80", bytes([self._protocol])]
        self._write(value)
        self._parts.append(b".")
        return b"".join(self._parts)

    def _write(self, value: Any) -> None:
        put = self._parts.append
        if value is None:
            put(b"N")
        elif isinstance(value, (bool, np.bool_)):
            put(b"\x88" if value else b"\x89")
        elif isinstance(value, (int, np.integer)):
            self._integer(int(value))
        elif isinstance(value, (float, np.floating)):
            put(b"G" + struct.pack(">d", float(value)))
        elif isinstance(value, str):
            text = value.encode("utf-8", "surrogatepass")
            put(b"X" + struct.pack("<I", len(text)) + text)
        elif isinstance(value, (bytes, bytearray)):
            self._bytes(bytes(value))
        elif isinstance(value, dict):
            put(b"}(")
            for key, item in value.items():
                self._write(key)
                self._write(item)
            put(b"u")
        elif isinstance(value, list):
            put(b"](")
            self._each(value)
            put(b"e")
        elif isinstance(value, tuple):
            put(b"(")
            self._each(value)
            put(b"t")
        else:
            self._record(value)

    def _record(self, value: Any) -> None:
        put = self._parts.append
        if isinstance(value, np.ndarray):
            self._write(self._replace(value))
        elif isinstance(value, Global):
            put(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self._write(value.function)
            self._write(value.arguments)
            put(b"R")
            if value.state is not None:
                self._write(value.state)
                put(b"b")
        elif isinstance(value, Persistent):
            self._write(value.pid)
            put(b"Q")
        else:
            raise TypeError(
                "Invalid entry. Expected dictionaries, lists, text, numbers and arrays. "
                f"Received {type(value).__name__}."
            )

    def _each(self, items: Any) -> None:
        for item in items:
            self._write(item)

    def _integer(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self._parts.append(b"J" + struct.pack("<i", value))
            return
        length = value.bit_length() // 8 + 1
        if length > 255:
            raise TypeError(f"Invalid entry. Expected a number. Received one of {length} bytes.")
        body = value.to_bytes(length, "little", signed=True)
        self._parts.append(b"\x8a" + bytes([length]) + body)

    def _bytes(self, value: bytes) -> None:
        if self._protocol < 3:
            text = value.decode("latin1")
            self._write(Call(Global("_codecs", "encode"), (text, "latin1")))
        elif len(value) < 2**32:
            self._parts.append(b"B" + struct.pack("<I", len(value)) + value)
        else:
            self._parts.append(b"\x8e" + struct.pack("<Q", len(value)) + value)
