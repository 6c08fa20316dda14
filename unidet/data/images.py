"""Image files to pixels and back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np

from unidet.errors import RunFailedError, UserError
from unidet.outputs import check_output

# Annotations refer to the pixels as stored, so a rotation tag is not obeyed (COCO's convention).
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: str | Path) -> np.ndarray:
    """Decodes a file.

    Grey images become three equal channels, 16-bit ones lose their low byte, transparency is
    dropped, rotation tags are not obeyed.

    Returns:
        ``(h, w, 3)`` uint8 RGB.

    Raises:
        UserError: the file is missing, truncated or no image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"Image file not found: {path}") from None
    except OSError as error:
        raise UserError(f"Image file cannot be read: {path} ({error.strerror})") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str = "image") -> np.ndarray:
    """Like :func:`read_image` for the bytes of a file; ``name`` is used in messages."""
    if not data:
        raise UserError(f"Image file is empty: {name}")
    if _truncated(data):
        raise UserError(f"Image file is truncated: {name}")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error as error:
        raise UserError(f"Image file cannot be decoded: {name} ({error.err})") from None
    if bgr is None:
        raise UserError(f"Image file cannot be decoded: {name}")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _truncated(data: bytes) -> bool:
    """True for a JPEG or PNG without its end mark: decoders fill the rest with grey, silently."""
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") < 0
    if data.startswith(b"\xff\xd8"):
        # A thumbnail in the header has an end mark too, so it must come after the first scan.
        return data.rfind(b"\xff\xd9") < _first_scan(data)
    return False


def _first_scan(data: bytes) -> int:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return at
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data)


def write_image(path: str | Path, image: np.ndarray, *, quality: int = 95) -> None:
    """Writes ``(h, w, 3)`` uint8 RGB in the format of the file's suffix, atomically.

    Raises:
        UserError: unknown suffix, or the folder cannot be written.
        RunFailedError: the system refused the write, as on a full disk.
    """
    path = Path(path)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    except cv2.error:
        done = False
    if not done:
        raise UserError(f"Invalid image suffix. Expected .png or .jpg. Received {path.name!r}.")
    write_bytes(path, data.tobytes())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old or the new one, never a part.

    Raises:
        UserError: the folder is missing or not writable.
        RunFailedError: the system refused the write, as on a full disk.
    """
    check_output(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except FileNotFoundError:
        raise UserError(f"Cannot write {path}: the folder {path.parent} does not exist.") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFailedError(f"Could not write {path}: {error.strerror}.") from None
