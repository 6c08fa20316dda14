"""The list of arrays in which UniDetector's own tools keep proposals (mmcv's dump of results)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.files.atomic import atomic_path
from unidet.weights_convert.containers.info import ContainerInfo
from unidet.weights_convert.containers.pickles import read_pickle
from unidet.weights_convert.errors import CheckpointError, UnsafePickleError
from unidet.weights_convert.pickle_writer import PickleWriter
from unidet.weights_convert.writers import numpy_call


def read_list(
    path: Path, what: str = "proposals", form: str = "an array (n, 5) for each image"
) -> list[Any]:
    """The entries of the list. The pickle can build arrays and plain values, nothing else.

    Args:
        path: the file.
        what: it is, for messages.
        form: of the entries, for messages.

    Raises:
        UserError: it names anything else (nothing is executed), is damaged, or holds no list.
    """
    try:
        found = read_pickle(path, ContainerInfo("pickle", path, path.stat().st_size), rescue=False)
    except UnsafePickleError as error:
        raise UserError(
            f"Invalid {what} {path}. Expected a pickle of arrays alone. Received one that names "
            f"{error.name}; nothing was executed."
        ) from error
    except (CheckpointError, OSError, MemoryError, RecursionError) as error:
        raise UserError(f"Invalid {what} {path}. It cannot be read: {error}.") from error
    if not isinstance(found, list):
        kind = "no plain data" if found is None else f"a {type(found).__name__}"
        raise UserError(f"Invalid {what} {path}. Expected a list with {form}. Received {kind}.")
    return found


def write_list(path: Path, arrays: list[np.ndarray], *, overwrite: bool = False) -> None:
    """Writes the list; ``pickle.load`` reads it wherever there is NumPy, 1 or 2.

    Raises:
        UserError: the file exists, or its folder cannot be written.
        RunFailedError: the disk refused the write.
    """
    content = PickleWriter(4, numpy_call).dump(arrays)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
