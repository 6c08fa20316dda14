"""PyTorch zip archives (1.6 and later) and TorchScript archives, read without PyTorch."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from unidet.files.shown import shown

from ..errors import CheckpointError
from .info import ContainerInfo
from .resolve import Resolver
from .stand_ins import Storage, StorageType, itemsize
from .unpickler import load_pickle

#: Our own text beside the tensors; PyTorch ignores it.
METADATA_RECORD = "unidet.json"
_LOCAL_HEADER = 30


class Archive:
    """The records of a torch zip file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
            raise CheckpointError(f"the zip archive is damaged or cut off ({error})") from error
        self._records = {entry.filename: entry for entry in entries}
        # One record under many names would be read as many times.
        if sum(entry.compress_size for entry in entries) > self.size:
            raise CheckpointError("the records of the zip archive overlap")
        roots = [name[: -len("data.pkl")] for name in self._records if name.endswith("data.pkl")]
        if not roots:
            raise CheckpointError("the zip archive holds no data.pkl")
        self.root = min(roots, key=len)

    def has(self, name: str) -> bool:
        """Whether there is a record ``name`` below the archive's own folder."""
        return self.root + name in self._records

    @property
    def is_script(self) -> bool:
        """Whether it is a TorchScript archive."""
        code = any(name.startswith(self.root + "code/") for name in self._records)
        return code and self.has("constants.pkl")

    def length(self, name: str) -> int:
        """Bytes of a record."""
        entry = self._records.get(self.root + name)
        if entry is None:
            raise CheckpointError(f"the zip archive lacks the record {name}")
        return entry.file_size

    def read(self, name: str) -> np.ndarray:
        """Bytes of a record as a writable uint8 array.

        PyTorch stores records as they are, and can be told to leave checksums out (zero), which
        ``zipfile`` would take for damage; hence the reading by hand.
        """
        length = self.length(name)
        entry = self._records[self.root + name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError(f"the record {name} is compressed or encrypted")
        if length != entry.compress_size or length > self.size:
            raise CheckpointError(f"the record {name} claims {length} bytes")
        try:
            with open(self.path, "rb") as file:
                file.seek(entry.header_offset)
                header = file.read(_LOCAL_HEADER)
                if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
                    raise CheckpointError(f"the record {name} is damaged")
                name_length, extra_length = struct.unpack("<HH", header[26:30])
                file.seek(name_length + extra_length, io.SEEK_CUR)
                data = np.empty(length, np.uint8)
                got = file.readinto(data.data) if length else 0
        except OSError as error:
            raise CheckpointError(f"the record {name} is unreadable ({error})") from error
        if got != length or (entry.CRC and zlib.crc32(data.data) != entry.CRC):
            raise CheckpointError(f"the record {name} is damaged (checksum)")
        return data


def read_torch_zip(path: Path, info: ContainerInfo, *, rescue: bool) -> Any:
    """The content of a torch zip or TorchScript archive.

    Raises:
        UnsafePickleError: it names something outside the allow-list.
        CheckpointError: it is damaged or of an unsupported kind.
    """
    archive = Archive(path)
    info.kind = "torchscript" if archive.is_script else "torch_zip"
    swap = archive.has("byteorder") and bytes(archive.read("byteorder")) == b"big"
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        return _storage(archive, storages, pid, swap)

    tree, _ = load_pickle(
        archive.read("data.pkl").tobytes(),
        str(path),
        persistent=persistent,
        rescue=rescue,
        script=archive.is_script,
    )
    if archive.has(METADATA_RECORD):
        info.metadata["unidet"] = bytes(archive.read(METADATA_RECORD)).decode("utf-8", "replace")
    return Resolver(info).run(tree)


def _storage(archive: Archive, storages: dict[str, Storage], pid: Any, swap: bool) -> Storage:
    if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
        raise CheckpointError("a tensor has a damaged reference to its values")
    _, kind, key, _, numel = pid
    if not isinstance(key, (str, int)):
        raise CheckpointError("a tensor has a damaged reference to its values")
    key = key if isinstance(key, str) else shown(key)
    if not isinstance(kind, StorageType) or not isinstance(numel, int) or numel < 0:
        raise CheckpointError("a tensor has a damaged reference to its values")
    if key not in storages:
        have, want = archive.length(f"data/{key}"), numel * itemsize(kind.dtype)
        if have < want:
            raise CheckpointError(f"the record data/{key} has {have} bytes, expected {want}")
        storages[key] = Storage(kind.dtype, numel, lambda: archive.read(f"data/{key}")[:want], swap)
    return storages[key]
