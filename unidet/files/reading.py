"""Text and JSON files that people and programs wrote, read so that a bad one is one clear error."""

from __future__ import annotations

import codecs
import json
import os
import stat
from pathlib import Path
from typing import Any

from unidet.errors import UserError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_bytes(path: str | os.PathLike[str], what: str = "File") -> bytes:
    """The content of a regular file.

    A device or a pipe is refused: it may never end, or never begin.

    Args:
        path: the file.
        what: begins the error message, such as "Annotation file".

    Raises:
        UserError: no such file, a folder, a device, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise UserError(f"{what} not found: {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{what} cannot be read: {path} ({_reason(error)})") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise UserError(f"{what} cannot be read: {path} is {kind}, no file")
    with open(descriptor, "rb") as file:
        try:
            return file.read()
        except (OSError, MemoryError) as error:
            raise UserError(f"{what} cannot be read: {path} ({_reason(error)})") from None


def read_text(path: str | os.PathLike[str], what: str = "File") -> str:
    """The text of a file in UTF-8, or in the encoding that its byte-order mark names.

    The mark itself is left out.

    Args:
        path: the file.
        what: begins the error message.

    Raises:
        UserError: as :func:`read_bytes`, or the bytes are no text.
    """
    return decode(read_bytes(path, what), path, what)


def decode(data: bytes, path: str | os.PathLike[str], what: str = "File") -> str:
    """Like :func:`read_text` for the bytes of a file; ``path`` is used in messages."""
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is no text in UTF-8: {path} (byte {error.start + len(mark)})"
        ) from None


def read_json(path: str | os.PathLike[str], what: str = "File") -> Any:
    """The value of a JSON file.

    Args:
        path: the file.
        what: begins the error message.

    Raises:
        UserError: as :func:`read_text`, empty, or not JSON.
    """
    return parse_json(read_text(path, what), path, what)


def parse_json(text: str, path: str | os.PathLike[str], what: str = "File") -> Any:
    """Like :func:`read_json` for its text; ``path`` is used in messages."""
    if not text.strip():
        raise UserError(f"{what} is empty: {path}")
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{what} is nested too deep: {path}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{what} is not JSON: {path} ({error})") from None
    except ValueError:
        # Python converts integers up to some thousand digits only.
        raise UserError(f"{what} holds an integer of thousands of digits: {path}") from None
    except MemoryError:
        raise UserError(f"{what} is larger than the memory: {path}") from None


def is_file(path: str | os.PathLike[str]) -> bool:
    """``Path.is_file`` that answers False for names no system can hold (too long, with NUL)."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def exists(path: str | os.PathLike[str]) -> bool:
    """``Path.exists`` that answers False for names no system can hold (too long, with NUL)."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
