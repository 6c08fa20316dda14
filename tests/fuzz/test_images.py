"""Mutated image files are read or refused in one line, to the size of picture that they hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated_bytes
from unidet.data.images import MAX_PIXELS, decode_image

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(stream, kind, **options)
    return stream.getvalue()


GREY = Image.fromarray(PIXELS[..., 0])
SEEDS = (
    encoded("JPEG", quality=80),
    encoded("JPEG", progressive=True),
    encoded("JPEG", GREY),
    encoded("JPEG", Image.fromarray(PIXELS).convert("CMYK")),
    encoded("PNG"),
    encoded("PNG", Image.fromarray(PIXELS).convert("P")),
    encoded("PNG", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)),
    encoded("TIFF"),
    encoded("TIFF", tiffinfo={274: 6}),
    encoded("TIFF", compression="tiff_lzw"),
    encoded("TIFF", compression="jpeg"),
    encoded("BMP"),
    encoded("WEBP"),
    encoded("WEBP", lossless=True),
    encoded("GIF"),
    encoded("PPM"),
)


def test_seeds_are_read() -> None:
    assert {decode_image(seed).shape for seed in SEEDS} == {(12, 16, 3)}


@fuzz(mutated_bytes(*SEEDS))
def test_images(case: bytes) -> None:
    with bounded():
        pixels = decode_image(case)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
