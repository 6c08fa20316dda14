"""Depths, colours, orientation, damage and bombs of each image format, against Pillow."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from unidet.data import read_image
from unidet.data.images import PIXELS_VARIABLE, decode_image
from unidet.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
GREY = PIXELS[..., 0]
TWELVE = np.random.default_rng(1).integers(0, 4096, (20, 30)).astype(np.uint16)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    if kind == "WEBP":
        options["lossless"] = True
    (image or Image.fromarray(PIXELS)).save(stream, kind, **options)
    return stream.getvalue()


def written(suffix: str, array: np.ndarray) -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def three(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, -1)


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("TIFF", "1 L LA P RGB RGBA CMYK YCbCr"),
        ("PNG", "1 L LA P RGB RGBA"),
        ("BMP", "1 L P RGB"),
        ("WEBP", "L RGB RGBA"),
        ("GIF", "1 L P"),
        ("PPM", "1 L RGB"),
        ("JPEG2000", "L LA RGB RGBA"),
    ],
)
def test_colours_are_those_of_pillow(kind: str, modes: str) -> None:
    for mode in modes.split():
        image = Image.fromarray(PIXELS).convert(mode)
        expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(decode_image(encoded(kind, image)), expected, mode)


def test_cmyk_jpeg() -> None:
    data = encoded("JPEG", Image.fromarray(PIXELS).convert("CMYK"))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize("turned", range(1, 9))
def test_no_format_obeys_the_rotation_tag(turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    for data in (
        encoded("TIFF", tiffinfo={274: turned}),
        encoded("TIFF", tiffinfo={274: turned}, compression="tiff_lzw"),
        encoded("PNG", exif=exif),
        encoded("WEBP", exif=exif),
    ):
        np.testing.assert_array_equal(decode_image(data), PIXELS)
    plain = decode_image(encoded("JPEG"))
    np.testing.assert_array_equal(decode_image(encoded("JPEG", exif=exif)), plain)


def test_deep_pictures_lose_their_low_bits() -> None:
    deep = PIXELS.astype(np.uint16) * 256 + 5
    for suffix in (".png", ".tif"):
        np.testing.assert_array_equal(decode_image(written(suffix, deep[..., ::-1])), PIXELS)
        expected = three(GREY)
        np.testing.assert_array_equal(decode_image(written(suffix, deep[..., 0])), expected)
    black = np.zeros((4, 5, 3), np.uint16)
    assert decode_image(written(".png", black)).max() == 0
    # The header of a PGM says that 4095 is white.
    pgm = b"P5\n30 20\n4095\n" + TWELVE.astype(">u2").tobytes()
    expected = three((TWELVE.astype(np.int64) * 65535 // 4095 >> 8).astype(np.uint8))
    np.testing.assert_array_equal(decode_image(pgm), expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (written(".png", TWELVE), "12 or less"),
        (written(".png", three(TWELVE)), "12 or less"),
        (written(".tif", TWELVE), "12 or less"),
        (written(".tif", three(TWELVE)), "12 or less"),
        (written(".tif", GREY.astype(np.float32)), "floats"),
        (written(".tif", GREY.astype(np.float64)), "floats"),
        (written(".tif", PIXELS.astype(np.float32)), "floats"),
        (written(".tif", GREY.astype(np.int8)), "signed"),
        (written(".tif", GREY.astype(np.int16)), "signed"),
        (written(".tif", GREY.astype(np.int32)), "signed"),
        (written(".hdr", PIXELS.astype(np.float32)), "Radiance HDR holds floats"),
        (written(".pfm", PIXELS.astype(np.float32)), "PFM holds floats"),
        (b"v/1\x01" + bytes(50), "OpenEXR holds floats"),
        (encoded("TIFF", Image.fromarray(PIXELS).convert("LAB")), "LAB"),
        (b"<svg/>", "cannot be decoded: x$"),
        (b"%PDF-1.4", "cannot be decoded: x$"),
        (b"%!PS-Adobe-3.0 EPSF", "cannot be decoded: x$"),
    ],
)
def test_what_eight_bits_cannot_show_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        decode_image(data, "x")
    assert "\n" not in str(caught.value)


def test_the_first_of_several_pictures_counts() -> None:
    more = {"save_all": True, "append_images": [Image.fromarray(PIXELS[::-1])] * 3}
    for kind in ("TIFF", "PNG", "WEBP"):
        np.testing.assert_array_equal(decode_image(encoded(kind, **more)), PIXELS)


def jpeg() -> bytes:
    return encoded("JPEG", quality=95)


def overwritten(data: bytes, at: int, content: bytes) -> bytes:
    return data[:at] + content + data[at + len(content) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (jpeg()[:-2], "truncated"),
        (jpeg()[:1000] + jpeg()[1200:], "damaged"),
        (overwritten(jpeg(), 700, bytes(60)), "damaged"),
        (overwritten(encoded("PNG"), 60, b"\xff\xff"), "damaged.*checksum"),
        (encoded("PNG")[:-20], "truncated"),
        (encoded("TIFF")[:-200], "truncated|damaged"),
        (encoded("GIF")[:-200], "truncated|damaged"),
        (encoded("BMP")[:-200], "truncated|damaged"),
        (encoded("WEBP")[:-200], "damaged"),
        (encoded("JPEG2000")[:-200], "damaged"),
    ],
)
def test_damage_is_found(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_image(data, "x")


def test_png_data_that_do_not_decompress() -> None:
    data, rows = encoded("PNG"), (b"\0" + bytes(90)) * 20
    header = data[:33]
    good = zlib.compress(rows)
    for content in (good[:-4], good[:-1] + bytes([good[-1] ^ 1]), zlib.compress(rows[:-300])):
        with pytest.raises(UserError, match="cannot be decoded"):
            decode_image(header + chunk(b"IDAT", content) + chunk(b"IEND", b""), "x")
    assert decode_image(header + chunk(b"IDAT", good) + chunk(b"IEND", b"")).max() == 0


def test_harmless_bytes_are_passed_over() -> None:
    data = jpeg()
    expected = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
    for same in (
        data,
        data + b"after the end" * 9,
        data[:-2] + bytes(40) + data[-2:],
        data[:-2] + b"\x11" + data[-2:],
        data[:20] + b"\0\x01\x02" + data[20:],
        data[:20] + b"\xff\xff" + data[20:],
    ):
        np.testing.assert_array_equal(decode_image(same), expected)
    png = encoded("PNG")
    np.testing.assert_array_equal(decode_image(png + b"after the end"), PIXELS)


def test_pictures_of_the_samples_decode_as_before() -> None:
    root = os.environ.get("UNIDET_TEST_DATA")
    if not root:
        pytest.skip("UNIDET_TEST_DATA names no folder of sample data")
    files = sorted((Path(root) / "data").rglob("*.jpg"))[::5]
    assert files
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    for path in files:
        expected = cv2.cvtColor(cv2.imread(str(path), flags), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(read_image(path), expected)


def sized_jpeg(size: bytes) -> bytes:
    data = jpeg()
    at = data.find(b"\xff\xc0") + 5
    return overwritten(data, at, size)


def test_bombs_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    png = encoded("PNG")
    header = struct.pack(">II", 65_535, 65_535) + png[24:29]
    started = time.perf_counter()
    for data in (
        sized_jpeg(b"\xff\xff\xff\xff"),
        png[:8] + chunk(b"IHDR", header) + png[33:],
        b"P6\n60000 60000\n255\n",
        overwritten(encoded("BMP"), 18, struct.pack("<ii", 60_000, 60_000)),
    ):
        with pytest.raises(UserError, match=r"too many pixels.*UNIDET_MAX_IMAGE_PIXELS"):
            decode_image(data)
    for data in (sized_jpeg(bytes(4)), png[:8] + chunk(b"IHDR", bytes(8) + png[24:29]) + png[33:]):
        with pytest.raises(UserError, match="size is 0x0"):
            decode_image(data)
    scan = jpeg()[jpeg().find(b"\xff\xda") : -2]
    with pytest.raises(UserError, match="301 scans"):
        decode_image(jpeg()[:-2] + scan * 300 + b"\xff\xd9")
    text = b"x\0\0" + zlib.compress(bytes(20_000_000), 9)
    for kind in (b"iCCP", b"zTXt"):
        np.testing.assert_array_equal(decode_image(png[:33] + chunk(kind, text) + png[33:]), PIXELS)
    assert time.perf_counter() - started < 3
    assert decode_image(png, max_pixels=600).shape == (20, 30, 3)
    for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        with pytest.raises(UserError, match="more than 599"):
            decode_image(encoded(kind), max_pixels=599)
    monkeypatch.setenv(PIXELS_VARIABLE, "599")
    with pytest.raises(UserError, match="30x20, more than 599"):
        decode_image(png)
    monkeypatch.setenv(PIXELS_VARIABLE, "many")
    with pytest.raises(UserError, match=r"Expected a number of pixels\. Received 'many'"):
        decode_image(png)


def test_a_limit_above_that_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(decode_image(encoded("TIFF")), PIXELS)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.timeout(20)
def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in ("/dev/zero", tmp_path / "pipe.jpg", tmp_path):
        with pytest.raises(UserError, match=r"Image file cannot be read.*no file"):
            read_image(path)
