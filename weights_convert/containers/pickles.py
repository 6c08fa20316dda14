"""Jittor pickles (with a checksum at the end) and plain pickles of arrays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .info import ContainerInfo
from .resolve import Resolver
from .unpickler import load_pickle

#: Last bytes of a Jittor pickle; the 20 bytes before are the SHA-1 of all that precedes them.
TRAILER = b"HCAJSLHD"
#: Starts our own text between the pickle's end and the checksum; Jittor ignores it.
METADATA_MARK = b"\nunidet metadata:"
_CHECKSUM = 20


def read_jittor(path: Path, info: ContainerInfo, *, rescue: bool) -> Any:
    """The content of a file written by ``jittor.save``.

    Raises:
        UnsafePickleError: it names something outside the allow-list.
        CheckpointError: the checksum does not match.
    """
    data = path.read_bytes()
    body = data[: -len(TRAILER) - _CHECKSUM]
    if hashlib.sha1(body).digest() != data[-len(TRAILER) - _CHECKSUM : -len(TRAILER)]:
        raise CheckpointError("the checksum at the end does not match the content")
    return _load(body, path, info, rescue)


def read_pickle(path: Path, info: ContainerInfo, *, rescue: bool) -> Any:
    """The content of a plain pickle of arrays, as detectron2 publishes them.

    Raises:
        UnsafePickleError: it names something outside the allow-list.
        CheckpointError: it is damaged or cut off.
    """
    return _load(path.read_bytes(), path, info, rescue)


def _load(data: bytes, path: Path, info: ContainerInfo, rescue: bool) -> Any:
    tree, end = load_pickle(data, str(path), rescue=rescue, encoding="latin1")
    rest = data[end:]
    if rest.startswith(METADATA_MARK):
        info.metadata["unidet"] = rest[len(METADATA_MARK) :].decode("utf-8", "replace")
    elif rest:
        raise CheckpointError(f"{len(rest)} bytes follow the end of the pickle: cut off or damaged")
    return Resolver(info).run(tree)
