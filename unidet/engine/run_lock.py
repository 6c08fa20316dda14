"""One process at a time trains in a run's folder.

The lock is the system's own (``flock``) on the file ``.lock``: it ends with the process that holds
it, however that ends, so none is ever stale. The text in the file only says who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from unidet.errors import UserError
from unidet.files.shown import printable

LOCK = ".lock"
_held: list[IO[bytes]] = []


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keeps other runs out of a folder inside the block.

    The folder is made where it does not exist; what is then still empty at the end goes again,
    with the file of the lock.

    Raises:
        UserError: another process works there (says which one and since when), or the folder cannot
            be made or written.
    """
    made = _make(root)
    try:
        file = _take(root)
    except BaseException:
        _remove_empty(made)
        raise
    if file is not None:
        _held.append(file)
    try:
        yield
    finally:
        if file is not None and not file.closed:
            # While it is still held: whoever opened it meanwhile sees that it has gone.
            with contextlib.suppress(OSError):
                (root / LOCK).unlink()
            _held.remove(file)
            file.close()
        _remove_empty(made)


def _make(root: Path) -> list[Path]:
    """Makes a folder and says which folders that were, the innermost first."""
    made = []
    place = root
    while not os.path.lexists(place) and place != place.parent:
        made.append(place)
        place = place.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(made)
        raise UserError(
            f"Invalid value for `work_dir`. Expected a folder that can be created. "
            f"Received {root}: {error.strerror}."
        ) from error
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _take(root: Path) -> IO[bytes] | None:
    """The locked file, or None where the file system has no locks."""
    path = root / LOCK
    while True:
        try:
            file = open(path, "a+b")  # noqa: SIM115 (open for as long as the run lasts)
        except FileNotFoundError:
            # The run that ended just now took its folder along.
            root.mkdir(parents=True, exist_ok=True)
            continue
        except OSError as error:
            raise UserError(
                f"Invalid value for `work_dir`. Expected a folder that can be written. "
                f"Received {root}: {error.strerror}."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                file.close()
                return None
            owner = _owner(file)
            file.close()
            raise UserError(
                f"Invalid value for `work_dir`. Expected a folder in which nothing runs. Received "
                f"{root}, in which {owner}. Wait for its end, or take another folder."
            ) from None
        if _is_at(file, path):
            _sign(file)
            return file
        file.close()  # of a run that ended between the two calls


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def _sign(file: IO[bytes]) -> None:
    facts = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.argv)[:500],
    }
    # On a full disk the lock holds all the same.
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(json.dumps(facts).encode() + b"\n")
        file.flush()


def _owner(file: IO[bytes]) -> str:
    try:
        file.seek(0)
        facts: Any = json.loads(file.read(4096))
        pid, host, since, command = (
            printable(str(facts[key]))[:200] for key in ("pid", "host", "since", "command")
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process works"
    return f"process {pid} on {host} works since {since} ({command})"


def _let_go() -> None:
    """In a forked child: the lock is its parent's, and must end with it."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
