"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from unidet.errors import RunFailedError, UserError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that becomes ``path`` when the block ends well.

    The temporary file is flushed to disk before the rename. When the block raises, it is removed
    and an earlier ``path`` stays as it was.

    Raises:
        UserError: ``path`` exists and ``overwrite`` is off, is a folder, or its folder is missing
            or may not be written.
        RunFailedError: the operating system refused the write (a full disk).
    """
    target = Path(path)
    check_target(target, overwrite=overwrite)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFailedError(
            f"Could not write {target}: {reason}. Nothing was left behind."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raises ``UserError`` unless ``target`` may be written."""
    if target.is_dir():
        raise UserError(f"Invalid destination. Expected a file name. Received the folder {target}.")
    if os.path.lexists(target.parent) and not target.parent.is_dir():
        raise UserError(
            f"Invalid destination {target}. Expected an existing folder. "
            f"Received {target.parent}, which is no folder."
        )
    if not target.parent.is_dir():
        raise UserError(
            f"Invalid destination {target}. Expected an existing folder. "
            f"Received {target.parent}, which does not exist."
        )
    if target.exists() and not overwrite:
        raise UserError(
            f"Invalid destination. Expected a new file. Received {target}, which exists "
            "(overwriting has to be asked for: overwrite=True or --overwrite)."
        )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UserError(
            f"Invalid destination {target}. Expected a folder that may be written. "
            f"Received {target.parent}, which may not."
        )


def _sync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is on disk; not every system allows it.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
