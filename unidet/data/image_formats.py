"""Image decoders: bytes of a file to pixels, one function for each decoder.

A file is looked at before it is decoded: which format it is, how many pixels it has. Damage that
decoders pass over with a warning is an error here.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from unidet.errors import UserError

# Annotations refer to the pixels as stored, so a rotation tag is not obeyed (COCO's convention).
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_PNG = b"\x89PNG\r\n\x1a\n"
# What Pillow decodes: no format that runs another program, and none of another purpose.
_PILLOW_FORMATS = ("TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "SUN")
_FLOAT_FORMATS = {
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"v/1\x01": "OpenEXR",
    b"PF\n": "PFM",
    b"Pf\n": "PFM",
    b"PF ": "PFM",
    b"Pf ": "PFM",
}
_PILLOW_ERRORS = (
    OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, SyntaxError,
    OverflowError, EOFError, RuntimeError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
#: Scans of a progressive JPEG: encoders write about ten, a bomb thousands.
_MOST_SCANS = 100
_SMALLEST_DEEP = 1 << 12


class _PillowLimit:
    """Switches Pillow's own limit of pixels off while any thread is inside; ours holds."""

    def __init__(self) -> None:
        self._lock, self._inside, self._limit = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS = self._limit


_pillow_limit = _PillowLimit()


class Unreadable(Exception):
    """Why an image cannot be used; the caller adds its name."""

    def __init__(self, what: str, why: str = "") -> None:
        super().__init__(what)
        self.what, self.why = what, why


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """Pixels of an image file: ``(h, w, 3)`` uint8 RGB.

    Args:
        data: the whole file.
        max_pixels: a larger picture is refused before it is decoded.

    Raises:
        Unreadable: damaged, too large, or not of a kind that has a right reading in 8 bits.
    """
    if not data:
        raise Unreadable("is empty")
    for magic, name in _FLOAT_FORMATS.items():
        if data.startswith(magic):
            raise Unreadable("cannot be decoded", f"{name} holds floats; save it with 8 bits")
    if data.startswith(b"\xff\xd8"):
        return _decode_jpeg(data, max_pixels)
    if data.startswith(_PNG):
        return _decode_png(data, max_pixels)
    return _decode_pillow(data, max_pixels, _PILLOW_FORMATS)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises ``Unreadable`` for a picture without pixels or with too many."""
    if width < 1 or height < 1:
        raise Unreadable("cannot be decoded", f"its size is {width}x{height}")
    if width * height > max_pixels:
        raise Unreadable(
            "has too many pixels",
            f"{width}x{height}, more than {max_pixels:,}; "
            "the environment variable UNIDET_MAX_IMAGE_PIXELS sets the limit",
        )


# JPEG


def _decode_jpeg(data: bytes, max_pixels: int) -> np.ndarray:
    width, height, components, scan = _jpeg_header(data)
    check_size(width, height, max_pixels)
    # A thumbnail in the header has an end mark too, so it must come after the first scan.
    if data.rfind(b"\xff\xd9") < scan:
        raise Unreadable("is truncated")
    scans = data.count(b"\xff\xda", scan)
    if scans > _MOST_SCANS or scans * width * height > 16 * max_pixels:
        raise Unreadable("cannot be decoded", f"it has {scans} scans")
    try:
        return _strict_jpeg(_without_garbage(data, scan), "CMYK" if components == 4 else "RGB")
    except Unreadable:
        raise
    except ValueError as error:
        text = str(error).rpartition("(): ")[2]
        if "subsampling" in text:  # one that TurboJPEG has no name for
            return _opencv(data)
        if any(word in text for word in ("Corrupt", "remature", "Inconsistent")):
            raise Unreadable("is damaged", text) from None
        raise Unreadable("cannot be decoded", text) from None


def _strict_jpeg(data: bytes, colours: str) -> np.ndarray:
    try:
        pixels = simplejpeg.decode_jpeg(data, colours)
    except ValueError as error:
        text = str(error)
        found = re.search(r"(\d+) extraneous bytes before marker 0xd9", text)
        filled = found is not None and _is_padding(data, int(found[1]))
        # Remarks about the header, none about the pixels.
        if not (filled or "JFIF revision" in text or "Adobe color transform" in text):
            raise
        pixels = simplejpeg.decode_jpeg(data, colours, strict=False)
    if colours == "CMYK":
        return _decode_pillow(data, pixels.size, ("JPEG", "MPO"))
    return pixels


def _is_padding(data: bytes, count: int) -> bool:
    """Whether the bytes before the end mark are mere filling, as some cameras write it."""
    end = data.rfind(b"\xff\xd9")
    return count <= 2 or len(set(data[end - count : end])) == 1


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each header segment of a JPEG, up to its first scan."""
    at = 2
    while True:
        # Bytes between two segments are no picture; decoders look for the next marker.
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            return
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at, end
        if marker in (0xDA, 0xD9):
            return
        at = end


def _jpeg_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, components, and where the first scan begins."""
    frame: tuple[int, int, int] | None = None
    for marker, begin, end in _segments(data):
        if marker == 0xDA and frame is not None:
            return *frame, begin
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and end - begin >= 10:
            part = data[begin + 4 : begin + 10]
            if len(part) < 6:
                break
            bits, height, width, components = struct.unpack(">BHHB", part)
            if bits != 8:
                raise Unreadable("cannot be decoded", f"a JPEG of {bits} bits; save it with 8")
            frame = (width, height, components)
    if frame is None and data.rfind(b"\xff\xd9") > 0:
        raise Unreadable("cannot be decoded", "a JPEG without a frame")
    raise Unreadable("is truncated")


def _without_garbage(data: bytes, scan: int) -> bytes:
    """The same JPEG without bytes between its header segments, which do not matter."""
    parts, last = [data[:2]], 2
    for _, begin, end in _segments(data[: scan + 4]):
        parts.append(data[begin:end] if begin < scan else b"")
        clean = begin == last or not data[last:begin].strip(b"\xff")
        if not clean:
            break
        last = end
    else:
        return data
    parts = [data[:2]]
    parts += [data[b:e] for _, b, e in _segments(data[: scan + 4]) if b < scan]
    return b"".join([*parts, data[scan:]])


# PNG


def _decode_png(data: bytes, max_pixels: int) -> np.ndarray:
    header, kept, ended = b"", [_PNG], False
    for kind, begin, end in _chunks(data):
        if kind == b"IHDR" and not header:
            header = data[begin + 8 : end - 4]
            if len(header) != 13:
                raise Unreadable("is damaged", "its PNG header is of another length")
            width, height = struct.unpack(">II", header[:8])
            check_size(width, height, max_pixels)
        elif not header:
            raise Unreadable("cannot be decoded", "a PNG that does not begin with its header")
        # Profiles, texts and animations do not change the pixels, and may be bombs.
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            kept.append(data[begin:end])
        elif kind[:1].isupper():
            raise Unreadable("cannot be decoded", f"a PNG with an unknown part {kind!r}")
        ended = kind == b"IEND"
    if not ended:
        raise Unreadable("is truncated")
    clean = b"".join(kept)
    if header[8] != 16:
        return _opencv(clean)
    deep = cv2.imdecode(np.frombuffer(clean, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16:
        raise Unreadable("is damaged", "its PNG data do not decode")
    if deep.ndim == 3 and deep.shape[2] in (3, 4):
        deep = deep[..., 2::-1]
    elif deep.ndim == 3:
        deep = deep[..., :1]
    return _from_deep(deep, 16)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the chunks of a PNG, up to the last that there is."""
    at = len(_PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise Unreadable("is damaged", f"checksum of PNG part {kind!r} at byte {at}")
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def _opencv(data: bytes) -> np.ndarray:
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error as error:
        raise Unreadable("cannot be decoded", error.err) from None
    if bgr is None:
        raise Unreadable("cannot be decoded")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)


# Everything else


def _decode_pillow(data: bytes, max_pixels: int, formats: tuple[str, ...]) -> np.ndarray:
    if data[:2] in (b"II", b"MM"):
        data = _upright_tiff(data)
    try:
        with _pillow_limit, Image.open(io.BytesIO(data), formats=formats) as image:
            check_size(*image.size, max_pixels)
            return _to_rgb(image)
    except UnidentifiedImageError:
        tiff = data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
        why = "a TIFF of floats or of unknown channels; save it as RGB with 8 bits" if tiff else ""
        raise Unreadable("cannot be decoded", why) from None
    except MemoryError:
        raise Unreadable("is larger than the memory") from None
    except _PILLOW_ERRORS as error:
        text = str(error) or type(error).__name__
        raise Unreadable("is truncated" if "truncated" in text else "is damaged", text) from None


def _to_rgb(image: Image.Image) -> np.ndarray:
    bits, kind = 16, image.format
    if kind == "TIFF":
        bits = _check_tiff(image.tag_v2)  # type: ignore[attr-defined]
    image.load()
    mode = image.mode
    if mode.startswith("I;16"):
        return _from_deep(np.asarray(image), bits)
    if mode == "I" and kind == "PPM":  # Pillow has scaled it to 16 bits
        return _from_deep(np.asarray(image).astype(np.uint16), 16)
    if mode in ("I", "F", "LAB", "HSV"):
        held = {"I": "signed or 32-bit integers", "F": "floats"}.get(mode, f"{mode} colours")
        raise Unreadable("cannot be decoded", f"it holds {held}; save it as RGB with 8 bits")
    pixels = np.array(image if mode == "RGB" else image.convert("RGB"))
    if kind == "TIFF" and bits > 8 and pixels.max(initial=0) < _SMALLEST_DEEP >> 8:
        raise _too_dark(bits)
    return pixels


def _from_deep(deep: np.ndarray, bits: int) -> np.ndarray:
    """Channels of ``bits`` bits in uint16, ``(h, w)`` or ``(h, w, 1 or 3)``, in 8 bits."""
    if bits == 16 and 0 < deep.max(initial=0) < _SMALLEST_DEEP:
        raise _too_dark(16)
    pixels = (deep >> (bits - 8)).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _too_dark(bits: int) -> Unreadable:
    return Unreadable(
        "cannot be decoded",
        f"of its {bits} bits a channel it uses 12 or less, so it would be nearly black; "
        "scale it to 8 bits",
    )


def _check_tiff(tags: Any) -> int:
    """Bits of a channel.

    Raises:
        Unreadable: values that 8 bits do not hold, or a mere preview of a raw photo.
    """
    sample_formats = _as_tuple(tags.get(339, 1))
    if any(value not in (1, 4) for value in sample_formats):
        held = "floats" if 3 in sample_formats else "signed or complex numbers"
        raise Unreadable("cannot be decoded", f"a TIFF of {held}; save it with 8 bits")
    if _as_tuple(tags.get(254, 0))[0] & 1 or 50706 in tags:
        raise Unreadable("cannot be decoded", "a raw photo begins with a preview; develop it")
    bits = _as_tuple(tags.get(258, 1))
    return int(max(bits))


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) and value else (value,)


def _upright_tiff(data: bytes) -> bytes:
    """The same TIFF whose first picture has orientation 1, since decoders differ about others."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        if big:
            (at,) = struct.unpack_from(f"{order}Q", data, 8)
            (count,) = struct.unpack_from(f"{order}Q", data, at)
            at, entry, value = at + 8, 20, 12
        else:
            (at,) = struct.unpack_from(f"{order}I", data, 4)
            (count,) = struct.unpack_from(f"{order}H", data, at)
            at, entry, value = at + 2, 12, 8
        for number in range(min(count, 65_535)):
            (tag,) = struct.unpack_from(f"{order}H", data, at + number * entry)
            if tag == 274:
                changed = bytearray(data)
                struct.pack_into(f"{order}HH", changed, at + number * entry + value, 1, 0)
                return bytes(changed)
    except (struct.error, OverflowError):
        pass  # the decoder says what is wrong
    return data


def orientation_of(data: bytes) -> int:
    """The rotation tag of an image file, 1 where it has none: 5 to 8 exchange width and height."""
    try:
        formats = ("JPEG", "MPO", "PNG", *_PILLOW_FORMATS)
        with _pillow_limit, Image.open(io.BytesIO(data), formats=formats) as image:
            found = image.getexif().get(0x0112, 1)
    except (UnidentifiedImageError, MemoryError, *_PILLOW_ERRORS):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def as_error(reason: Unreadable, name: str) -> UserError:
    """The line for a user."""
    return UserError(f"Image file {reason.what}: {name}{f' ({reason.why})' if reason.why else ''}")
