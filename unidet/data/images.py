"""Reads and writes image files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np

from unidet.data.image_formats import Unreadable, as_error, decode, orientation_of
from unidet.errors import RunFailedError, UserError
from unidet.files.outputs import check_output
from unidet.files.reading import read_bytes
from unidet.files.shown import shown

#: Pillow's own limit: 179 million pixels, half a gigabyte in memory.
MAX_PIXELS = 178_956_970
#: Environment variable with another limit.
PIXELS_VARIABLE = "UNIDET_MAX_IMAGE_PIXELS"


def read_image(image: np.ndarray | str | Path, *, max_pixels: int | None = None) -> np.ndarray:
    """Decodes a file, or checks an array and returns it as it is.

    Pixels are as stored: rotation tags are not obeyed, in no format, and colour profiles are not
    applied. Grey images become three equal channels, palettes their colours and CMYK RGB; 12 and
    16 bits become the upper 8 of them; transparency is dropped; of several pictures the first
    counts. JPEG, PNG, TIFF, BMP, WebP, GIF, PPM, JPEG 2000, Sun raster and, where Pillow has it,
    AVIF are read.

    Args:
        image: a file, or ``(h, w, 3)`` uint8 RGB.
        max_pixels: refuse larger pictures before they take memory; by default the environment
            variable ``UNIDET_MAX_IMAGE_PIXELS``, or 178,956,970.

    Returns:
        ``(h, w, 3)`` uint8 RGB.

    Raises:
        UserError: the file is missing, no regular file, empty, truncated, damaged (also where a
            decoder would only warn), no image, too large, or holds what 8 bits cannot show:
            floats, signed or 32-bit numbers, 12 bits or less in 16 without saying so; or an array
            of another dtype or shape.
        TypeError: neither a path nor an array.
    """
    if isinstance(image, (str, Path)):
        return decode_image(read_bytes(image, "Image file"), str(image), max_pixels=max_pixels)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            "Invalid value for `image`. Expected a path or a numpy array. "
            f"Received {type(image).__name__}."
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(
            "Invalid value for `image`. Expected uint8 of shape (h, w, 3), RGB. "
            f"Received {image.dtype} of shape {image.shape}."
        )
    return image


def decode_image(data: bytes, name: str = "image", *, max_pixels: int | None = None) -> np.ndarray:
    """Like :func:`read_image` for the bytes of a file; ``name`` is used in messages."""
    try:
        return decode(data, _limit() if max_pixels is None else max_pixels)
    except Unreadable as reason:
        raise as_error(reason, name) from None


def size_defect(path: str | Path, pixels: np.ndarray, width: float, height: float) -> str | None:
    """How the size of a picture differs from what its annotation says, or nothing.

    Args:
        path: the file, whose rotation tag may explain the difference.
        pixels: ``(h, w, 3)``, as it was read.
        width: of the annotation; 0 says nothing.
        height: of the annotation; 0 says nothing.
    """
    found = (pixels.shape[1], pixels.shape[0])
    said = (width or found[0], height or found[1])
    if said == found:
        return None
    text = f"{width:g}x{height:g} said, {found[0]}x{found[1]} found"
    try:
        turned = orientation_of(read_bytes(path))
    except UserError:
        turned = 1
    if turned >= 5 and said == found[::-1]:
        return (
            f"{text}; its rotation tag {turned}, which the tool that made the annotation obeyed, "
            "explains the difference: save the pictures turned by it, without the tag "
            "(Pillow: ImageOps.exif_transpose)"
        )
    return text


def _limit() -> int:
    value = os.environ.get(PIXELS_VARIABLE)
    if not value:
        return MAX_PIXELS
    if not (value.isascii() and value.isdigit()) or len(value) > 18 or int(value) < 1:
        raise UserError(
            f"Invalid value for the environment variable {PIXELS_VARIABLE}. Expected a number of "
            f"pixels. Received {shown(value)}."
        )
    return int(value)


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
