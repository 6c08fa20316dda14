"""PyTorch files from before 1.6: a stream of pickles followed by raw storages."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from unidet.files.shown import shown

from ..errors import CheckpointError
from .info import ContainerInfo
from .resolve import Resolver
from .stand_ins import Storage, StorageType, StorageView, itemsize
from .unpickler import check_stream, load_pickle

#: The pickled magic number that such files start with.
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PROTOCOL = 1001


class _Storages:
    """Storages by key; their bytes are known once the object has been read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.swap = False
        self.found: dict[str, Storage] = {}
        self.content: dict[str, np.ndarray] = {}

    def persistent(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return pid[1]  # a class with its source text, only met with rescue
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise CheckpointError("a tensor has a damaged reference to its values")
        kind, key, _, numel = pid[1:5]
        view = pid[5] if len(pid) == 6 else None
        if not isinstance(kind, StorageType) or not isinstance(numel, int) or numel < 0:
            raise CheckpointError("a tensor has a damaged reference to its values")
        if numel * itemsize(kind.dtype) > self._limit:
            raise CheckpointError(f"a storage claims {numel} values, more than the file holds")
        if not isinstance(key, (str, int)):
            raise CheckpointError("a tensor has a damaged reference to its values")
        key = key if isinstance(key, str) else shown(key)
        if key not in self.found:
            self.found[key] = Storage(kind.dtype, numel, lambda: self._bytes(key), self.swap)
        if view is None:
            return self.found[key]
        if not isinstance(view, tuple) or len(view) != 3 or not isinstance(view[1], int):
            raise CheckpointError("a tensor has a damaged reference to its values")
        return StorageView(self.found[key], view[1])

    def _bytes(self, key: str) -> np.ndarray:
        if key not in self.content:
            raise CheckpointError(f"the values of storage {key} are missing")
        return self.content[key]


def read_torch_legacy(path: Path, info: ContainerInfo, *, rescue: bool) -> Any:
    """The content of a legacy torch file.

    Raises:
        UnsafePickleError: it names something outside the allow-list.
        CheckpointError: it is damaged or cut off.
    """
    data = path.read_bytes()
    position = len(MAGIC)
    storages = _Storages(len(data))

    def step(**options: Any) -> Any:
        nonlocal position
        end, _ = check_stream(data, position)
        value, _ = load_pickle(data[position:end], str(path), **options)
        position = end
        return value

    if step() != _PROTOCOL:
        raise CheckpointError("the file has an unknown protocol version")
    system = step()
    storages.swap = isinstance(system, dict) and system.get("little_endian") is False
    tree = step(persistent=storages.persistent, rescue=rescue)
    keys = step()
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise CheckpointError("the list of storages is damaged")
    names = [key if isinstance(key, str) else shown(key) for key in keys]
    _read_storages(data, position, names, storages)
    return Resolver(info).run(tree)


def _read_storages(data: bytes, position: int, keys: list[str], storages: _Storages) -> int:
    for key in keys:
        storage = storages.found.get(key)
        if storage is None:
            raise CheckpointError(f"the file lists storage {shown(key)}, which nothing uses")
        count = data[position : position + 8]
        if len(count) < 8:
            raise CheckpointError("the file is cut off before its last tensors")
        (numel,) = struct.unpack(">q" if storages.swap else "<q", count)
        length = storage.numel * itemsize(storage.dtype)
        if numel != storage.numel or position + 8 + length > len(data):
            raise CheckpointError(f"the values of storage {key} are cut off or damaged")
        start = position + 8
        storages.content[key] = np.frombuffer(data, np.uint8, length, start)
        position = start + length
    return position
