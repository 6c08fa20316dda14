"""Boxes follow the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.data import AUGMENTATIONS, create_augmentation
from unidet.data.transforms import (
    ColorJitter,
    HorizontalFlip,
    RandomResize,
    RandomZoom,
    VerticalFlip,
    clip_targets,
)
from unidet.errors import UserError
from unidet.structures import Targets

BOX = (5, 3, 12, 9)


def marked() -> tuple[np.ndarray, Targets]:
    """A dark picture with one bright rectangle, and its box."""
    image = np.zeros((20, 30, 3), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 200
    return image, Targets(np.array([BOX], np.float32), np.array([4]), np.array([True]))


def box_of(image: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(image[..., 0] > 100)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("flip", [HorizontalFlip, VerticalFlip])
def test_flips_carry_the_box_and_leave_the_input(flip: type) -> None:
    image, targets = marked()
    out, moved = flip(1.0)(image, targets, np.random.default_rng(0))
    assert box_of(image) == list(BOX) == targets.boxes_xyxy[0].tolist()
    assert box_of(out) == moved.boxes_xyxy[0].tolist() != list(BOX)
    assert moved.labels.tolist() == [4] and moved.crowd.tolist() == [True]
    same, kept = flip(0.0)(image, targets, np.random.default_rng(0))
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(kept.boxes_xyxy, targets.boxes_xyxy)


def test_flip_probability() -> None:
    image, targets = marked()
    rng = np.random.default_rng(1)
    count = sum(
        box_of(HorizontalFlip(0.3)(image, targets, rng)[0]) != list(BOX) for _ in range(400)
    )
    assert 80 < count < 160


def test_random_resize_draws_from_a_span() -> None:
    resize = RandomResize(span=[40, 43])
    drawn = {resize.draw(np.random.default_rng(i)) for i in range(60)}
    assert drawn == {40, 41, 42, 43}


def test_random_resize_scales_boxes() -> None:
    image, targets = marked()
    resize = RandomResize([40, 10, 60], max_size=75)
    seen = set()
    rng = np.random.default_rng(0)
    for _ in range(30):
        out, scaled = resize(image, targets, rng)
        seen.add(out.shape[:2])
        np.testing.assert_allclose(scaled.boxes_xyxy[0], box_of(out), atol=0.51)
    assert seen == {(40, 60), (10, 15), (50, 75)}


def test_color_jitter_keeps_boxes_and_changes_pixels() -> None:
    image, targets = marked()
    out, same = ColorJitter()(image, targets, np.random.default_rng(0))
    assert out.dtype == np.uint8 and not np.array_equal(out, image)
    assert same is targets
    still, _ = ColorJitter(0, 0, 0)(image, targets, np.random.default_rng(0))
    np.testing.assert_allclose(still, image, atol=1)


def test_clipping_drops_what_is_left_too_thin() -> None:
    boxes = np.array([[-5, -5, 4, 4], [29.5, 0, 40, 10], [29, 0, 40, 10], [50, 0, 60, 9]])
    clipped = clip_targets(Targets(boxes.astype(np.float32), np.arange(4)), (20, 30))
    assert clipped.labels.tolist() == [0, 2]
    np.testing.assert_array_equal(clipped.boxes_xyxy, [[0, 0, 4, 4], [29, 0, 30, 10]])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("horizontal_flp", {}, "Did you mean 'horizontal_flip'"),
        ("horizontal_flip", {"q": 1}, "horizontal_flip"),
        ("horizontal_flip", {"p": 1.5}, "`p`"),
        ("random_resize", {}, "min_sizes"),
        ("random_resize", {"min_sizes": []}, "min_sizes"),
        ("random_resize", {"span": [50, 40]}, "span"),
        ("random_resize", {"span": [40, 50], "min_sizes": [60]}, "span"),
        ("color_jitter", {"contrast": 2}, "`contrast`"),
    ],
)
def test_bad_augmentations(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        create_augmentation(name, arguments)


def test_all_augmentations_can_be_made_and_called() -> None:
    image, targets = marked()
    needed: dict[str, dict[str, Any]] = {
        "random_resize": {"min_sizes": [30]},
        "detr_crop_resize": {"min_sizes": [30], "p": 0.0},
    }
    for name in AUGMENTATIONS:
        if name == "albumentations":  # tests/data/test_albumentations.py
            continue
        made = create_augmentation(name, needed.get(name))
        out, moved = made(image, targets, np.random.default_rng(0))
        assert out.dtype == np.uint8 and len(moved) == 1


def _marked(boxes: list[list[int]]) -> tuple[np.ndarray, Targets]:
    image = np.zeros((60, 80, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return image, Targets(np.array(boxes, np.float32), np.zeros(len(boxes), np.int64))


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.4])
def test_zoom_moves_the_box_with_its_pixels(factor: float) -> None:
    image, targets = _marked([[30, 20, 50, 40]])
    zoom = RandomZoom(factor, factor, fill=(0, 0, 0))
    for seed in range(8):
        moved, found = zoom(image, targets, np.random.default_rng(seed))
        assert moved.shape == image.shape
        assert len(found) == 1
        rows, columns = np.nonzero(moved[..., 0] > 127)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(found.boxes_xyxy[0], seen, atol=1.01)


def test_zoom_drops_what_leaves_the_frame() -> None:
    image, targets = _marked([[0, 0, 6, 6], [74, 54, 80, 60], [30, 20, 50, 40]])
    zoom = RandomZoom(1.9, 1.9, min_visible=0.5)
    counts = {len(zoom(image, targets, np.random.default_rng(seed))[1]) for seed in range(12)}
    # Twice as large, opposite corners cannot both be in the frame.
    assert max(counts) <= 2
    assert min(counts) >= 1
