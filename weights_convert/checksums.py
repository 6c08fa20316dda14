"""Checksums in the metadata of safetensors files, so that a changed byte does not go unnoticed.

Two entries of the metadata: a digest of each tensor (its type, shape and bytes), and one of those
digests together with all other entries. Each demands the other, so that damage to the name of one
does not pass for a file of earlier versions, which had none. Other readers of safetensors see
text in the metadata and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .errors import CheckpointError

TENSORS, WHOLE = "unidet_digests", "unidet_checksum"


def sealed(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, str]:
    """``metadata`` with checksums of itself and of the arrays.

    Args:
        arrays: by name, in C order.
        metadata: text by name; earlier checksums in it are replaced.
    """
    plain = without_checksums(metadata)
    digests = {name: _digest(array) for name, array in arrays.items()}
    plain[TENSORS] = json.dumps(digests, separators=(",", ":"), ensure_ascii=False)
    return {**plain, WHOLE: _checksum(plain)}


def without_checksums(metadata: Mapping[str, str]) -> dict[str, str]:
    """``metadata`` without the checksums of :func:`sealed`."""
    return {key: value for key, value in metadata.items() if key not in (TENSORS, WHOLE)}


def verify(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Compares a file with its checksums; one without them, of an earlier version, passes.

    Args:
        path: the file.
        arrays: as read from it.
        metadata: as read from it.

    Raises:
        CheckpointError: something has changed since the file was written; names the tensor.
    """
    if TENSORS not in metadata and WHOLE not in metadata:
        return
    plain = {key: value for key, value in metadata.items() if key != WHOLE}
    if metadata.get(WHOLE) != _checksum(plain) or TENSORS not in plain or not _is_padded(path):
        raise CheckpointError(
            "its header does not fit its checksum: it is damaged, or another program changed it"
        )
    try:
        expected = dict(json.loads(plain[TENSORS]))
    except (ValueError, TypeError):
        raise CheckpointError("its checksums are no JSON object: it is damaged") from None
    for name, array in arrays.items():
        if expected.get(name) != _digest(array):
            raise CheckpointError(
                f"the tensor {name!r} does not fit its checksum: it is damaged, or another program "
                "changed it"
            )
    lost = expected.keys() - arrays.keys()
    if lost:
        raise CheckpointError(f"the tensor {min(lost)!r} is missing")


def _digest(array: np.ndarray) -> str:
    kind = array.dtype.newbyteorder("<").str
    found = hashlib.blake2b(f"{kind}{list(array.shape)}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _checksum(metadata: Mapping[str, str]) -> str:
    text = json.dumps(metadata, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _is_padded(path: Path) -> bool:
    """Whether nothing but blanks follows the header's JSON text."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        end = file.read(size).rpartition(b"}")[2]
    return not end.strip(b" ")
