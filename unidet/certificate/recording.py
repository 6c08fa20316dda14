"""The first side on disk: an .npz file written and read one array at a time."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.weights_convert.atomic import atomic_path

_META = "unidet-recording.json"
FORMAT_VERSION = 1


def write_recording(path: str | Path, meta: dict[str, Any]) -> Any:
    """A context manager that gives a sink; what it receives becomes the file at the end.

    Args:
        path: destination; replaced whole or not at all.
        meta: JSON values kept beside the arrays.
    """
    return _Writer(Path(path), meta)


class _Writer:
    def __init__(self, path: Path, meta: dict[str, Any]) -> None:
        self._atomic = atomic_path(path, overwrite=True)
        self._meta = meta
        self._order: list[tuple[str, str]] = []

    def __enter__(self) -> _Writer:
        # On the stack, an error of the zip file passes through the atomic path, which explains it.
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(self._atomic)
            self._zip = zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __call__(self, kind: str, name: str, array: np.ndarray) -> None:
        """Writes one array under its kind and name."""
        self._order.append((kind, name))
        with self._zip.open(f"{len(self._order) - 1}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)

    def __exit__(self, *problem: Any) -> None:
        self._stack.__exit__(*problem)

    def _finish(self, kind: type | None, *problem: Any) -> None:
        if kind is None:
            meta = {"format_version": FORMAT_VERSION, "order": self._order, **self._meta}
            self._zip.writestr(_META, json.dumps(meta))
            self._zip.close()
            return
        with contextlib.suppress(OSError):  # the file goes away; what stopped it is what counts
            self._zip.close()


class Recording:
    """A recorded side; arrays are read when they are asked for.

    Attributes:
        meta: what was kept beside the arrays.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens a file of :func:`write_recording`.

        Raises:
            UserError: missing, damaged, or another kind of file.
        """
        try:
            self._zip = zipfile.ZipFile(path)
            self.meta: dict[str, Any] = json.loads(self._zip.read(_META))
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise UserError(
                f"Invalid recording {path}. Expected a file of `unidet parity --record`. "
                f"Received: {error}."
            ) from error
        if self.meta["format_version"] > FORMAT_VERSION:
            raise UserError(f"Invalid recording {path}. A newer unidet wrote it.")
        self._index = {(kind, name): i for i, (kind, name) in enumerate(self.meta["order"])}

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._zip.close()

    def get(self, kind: str, name: str) -> np.ndarray | None:
        """One array, or None where the first side had none of this name."""
        index = self._index.get((kind, name))
        if index is None:
            return None
        with self._zip.open(f"{index}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def names(self, kind: str) -> Iterator[str]:
        """Names of a kind in the order in which they were written."""
        return (name for k, name in self.meta["order"] if k == kind)
