"""Files of NumPy, read so that a bad one is one clear error and a small one stays small."""

from __future__ import annotations

import io
import math
import os
import warnings
import zipfile
from typing import BinaryIO

import numpy as np

from unidet.errors import UserError
from unidet.files.reading import read_bytes
from unidet.files.shown import cut, printable, shown

#: Compressed, an archive may hold this many times its own size, or this many bytes.
_GROWTH = 64
_SMALL = 1 << 28
_SIDE = 1 << 48
_MAX_DIMS = 32


def read_npy(path: str | os.PathLike[str], what: str = "Array") -> np.ndarray:
    """The array of a ``.npy`` file; arrays of Python objects are refused.

    Args:
        path: the file.
        what: begins the error message, such as "Text embeddings".

    Raises:
        UserError: no such file, or it is no whole array.
    """
    data = read_bytes(path, what)
    try:
        return _array(io.BytesIO(data), len(data))
    # NumPy's parser, and those below it, raise errors of a dozen kinds.
    except Exception as error:
        raise UserError(f"{what} cannot be read: {path} ({_reason(error)})") from None


def read_npz(path: str | os.PathLike[str], what: str = "NumPy archive") -> dict[str, np.ndarray]:
    """All arrays of a ``.npz`` file by name; arrays of Python objects are refused.

    Args:
        path: the file.
        what: begins the error message.

    Raises:
        UserError: no such file, no whole archive, or one that unpacks to more than its size can
            mean.
    """
    data = read_bytes(path, what)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _arrays(archive, len(data))
    # The parsers of zip, deflate and NumPy raise errors of a dozen kinds.
    except Exception as error:
        raise UserError(f"{what} cannot be read: {path} ({_reason(error)})") from None


def _arrays(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    entries = archive.infolist()
    if sum(entry.compress_size for entry in entries) > size:
        raise ValueError("its records overlap")
    total = sum(entry.file_size for entry in entries)
    if total > max(_GROWTH * size, _SMALL):
        raise ValueError(f"its records claim {total} bytes, the file has {size}")
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        title = printable(cut(entry.filename, 80))
        if entry.flag_bits & 1:
            raise ValueError(f"the record {title} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"the record {title} has a compression that NumPy does not write")
        if not entry.filename.endswith(".npy"):
            raise ValueError(f"the record {title} is no array")
        name = entry.filename[: -len(".npy")]
        if name in arrays:
            raise ValueError(f"two records have the name {title}")
        try:
            arrays[name] = read_record(archive, entry)
        except Exception as error:
            raise ValueError(f"the record {title}: {_reason(error)}") from None
    return arrays


def read_record(archive: zipfile.ZipFile, entry: zipfile.ZipInfo | str) -> np.ndarray:
    """One array of an open archive, such as of a recording.

    Raises:
        Exception: of any kind that the parsers of zip, deflate and NumPy raise; it is damaged.
    """
    with archive.open(entry) as stream:
        content = stream.read()
    return _array(io.BytesIO(content), len(content))


def _array(stream: BinaryIO, size: int) -> np.ndarray:
    """One array; its header is believed as far as there are bytes for it."""
    with warnings.catch_warnings():
        # Headers of Python 2 and odd dtypes warn.
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"the array has format version {version[0]}.{version[1]}")
        old = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        if dtype.names is not None or dtype.subdtype is not None:
            raise ValueError("it holds records, not numbers")
        if len(shape) > _MAX_DIMS or any(not 0 <= side < _SIDE for side in shape):
            raise ValueError(f"it has the shape {shown(shape, 60)}")
        if math.prod(filter(None, shape)) * max(dtype.itemsize, 1) >= _SIDE:
            raise ValueError(f"it has the shape {shown(shape, 60)}")
        rest = size - stream.tell()
        if math.prod(shape) * dtype.itemsize > rest or (not dtype.itemsize and math.prod(shape)):
            raise ValueError(f"an array of shape {shown(shape, 60)} has {rest} bytes")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def _reason(error: Exception) -> str:
    return printable(cut(str(error) or type(error).__name__, 200))
