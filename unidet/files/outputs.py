"""Files that commands write: looked at before the work starts, their folders made with clear words.

A run of an hour must not end with the news that its result has no place to go.
"""

from __future__ import annotations

import os
from pathlib import Path

from unidet.errors import UserError


def check_output(path: str | Path | None, *, folder: bool = False) -> None:
    """Refuses a place that cannot be written, before anything is computed. Writes nothing.

    Args:
        path: a file, or a folder; neither it nor the folders above it need exist. None passes.
        folder: ``path`` is a folder.

    Raises:
        UserError: a part of the path is a file, is a folder where a file is meant, or may not be
            written.
    """
    if path is None:
        return
    target = Path(path)
    if not folder and target.is_dir():
        raise UserError(f"Cannot write {target}: it is a folder.")
    place = target if folder else target.parent
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"Cannot write {target}: {place} is no folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"Cannot write {target}: the folder {place} is not writable.")
    if target.is_file() and not os.access(target, os.W_OK):
        raise UserError(f"Cannot write {target}: the file is not writable.")


def make_parent(path: str | Path) -> Path:
    """The path, after its folder was made.

    Raises:
        UserError: see :func:`check_output`, or the system refuses.
    """
    target = Path(path)
    check_output(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {target}: {error.strerror}.") from error
    return target
