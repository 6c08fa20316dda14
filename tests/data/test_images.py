"""Decoding: formats, depths, damaged files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from unidet.data import read_image, write_image
from unidet.data.images import decode_image
from unidet.errors import UserError

RGB = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)


def encode(array: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


def test_colour_order() -> None:
    np.testing.assert_array_equal(decode_image(encode(RGB[..., ::-1])), RGB)


def test_grey_sixteen_bit_and_alpha() -> None:
    grey = RGB[..., 0]
    np.testing.assert_array_equal(decode_image(encode(grey)), np.stack([grey] * 3, -1))
    deep = RGB.astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(decode_image(encode(deep[..., ::-1])), RGB)
    alpha = np.concatenate([RGB[..., ::-1], np.zeros((6, 5, 1), np.uint8)], -1)
    np.testing.assert_array_equal(decode_image(encode(alpha)), RGB)


def test_rotation_tag_is_not_obeyed() -> None:
    data = encode(np.full((8, 4, 3), 90, np.uint8), ".jpg")
    orientation = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + b"\x00\x01" + orientation + b"\x00" * 4
    block = b"Exif\x00\x00" + tiff
    tagged = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    turned = cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (4, 8, 3)  # the tag is a real one
    assert decode_image(tagged).shape == (8, 4, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_files_are_found(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    path = tmp_path / f"cut{suffix}"
    data = encode(noise, suffix)
    path.write_bytes(data)
    assert read_image(path).shape == (40, 40, 3)
    for share in (0.9, 0.5, 0.1):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UserError, match=f"cut{suffix}"):
            read_image(path)


def test_end_mark_of_a_thumbnail_does_not_count() -> None:
    data = encode(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8), ".jpg")
    thumbnail = encode(np.zeros((4, 4, 3), np.uint8), ".jpg")
    block = b"Exif\x00\x00" + thumbnail
    tagged = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    assert decode_image(tagged).shape == (40, 40, 3)
    with pytest.raises(UserError, match="truncated"):
        decode_image(tagged[:-300])


@pytest.mark.parametrize(("data", "message"), [(b"", "empty"), (b"no image", "decoded")])
def test_other_files_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_image(path)
    assert "odd.jpg" in str(caught.value)
    with pytest.raises(UserError, match="not found"):
        read_image(tmp_path / "none.jpg")


def test_written_png_is_read_back(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(UserError, match="suffix"):
        write_image(tmp_path / "a.xyz", RGB)
