"""Recording of the first side: an .npz file, written and read one array at a time."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.files.arrays import read_record
from unidet.files.atomic import atomic_path
from unidet.files.numbers import is_id
from unidet.files.reading import decode, parse_json
from unidet.files.shown import shown

_META = "unidet-recording.json"
FORMAT_VERSION = 1
#: What is kept beside the arrays, with its types.
_FACTS: dict[str, type | tuple[type, ...]] = {
    "order": list,
    "batch": dict,
    "model": (dict, type(None)),
    "backend": str,
    "versions": dict,
    "weights": dict,
    "gradients": bool,
    "gradient_norms": dict,
}


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
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
            content = self._zip.read(_META)
        # The parsers of zip and deflate raise errors of a dozen kinds.
        except Exception as error:
            raise self._invalid(
                f"Expected a file of `unidet parity --record`. Received: {error}."
            ) from error
        self.meta: dict[str, Any] = parse_json(
            decode(content, path, "Recording"), path, "Recording"
        )
        if not isinstance(self.meta, dict) or not is_id(self.meta.get("format_version")):
            raise self._invalid("Its facts are damaged.")
        if self.meta["format_version"] > FORMAT_VERSION:
            raise self._invalid("A newer unidet wrote it.")
        for key, kind in _FACTS.items():
            if not isinstance(self.meta.get(key), kind):
                raise self._invalid(f"Its `{key}` is damaged: {shown(self.meta.get(key))}.")
        order = self.meta["order"]
        if not all(
            isinstance(pair, list) and list(map(type, pair)) == [str, str] for pair in order
        ):
            raise self._invalid("Its `order` is damaged.")
        self._index = {(kind, name): i for i, (kind, name) in enumerate(order)}

    def _invalid(self, why: str) -> UserError:
        return UserError(f"Invalid recording {self._path}. {why}")

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._zip.close()

    def get(self, kind: str, name: str) -> np.ndarray | None:
        """One array, or None where the first side had none of this name.

        Raises:
            UserError: it is damaged.
        """
        index = self._index.get((kind, name))
        if index is None:
            return None
        try:
            return read_record(self._zip, f"{index}.npy")
        # The parsers of zip, deflate and NumPy raise errors of a dozen kinds.
        except Exception as error:
            raise self._invalid(f"The {kind} {name} cannot be read: {error}.") from error

    def names(self, kind: str) -> Iterator[str]:
        """Names of a kind in the order in which they were written."""
        return (name for k, name in self.meta["order"] if k == kind)
