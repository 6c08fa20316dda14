"""Boxes and labels on images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unidet.errors import UserError
from unidet.structures import Detections, Targets
from unidet.visualization import (
    class_colour,
    draw_detections,
    draw_targets,
    read_image,
    side_by_side,
    write_image,
)
from unidet.visualization.draw import plain

GREY = np.full((120, 200, 3), 90, np.uint8)


def _found(boxes: list[list[float]], scores: list[float], names: tuple[str, ...]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.arange(len(scores)) % max(len(names), 1),
        names,
    )


def test_box_is_drawn_where_it_is() -> None:
    picture = draw_detections(GREY, _found([[60, 40, 150, 100]], [0.9], ("cat",)))
    colour = np.array(class_colour(0))
    for x, y in ((60, 70), (150, 70), (105, 100)):
        assert (picture[y, x] == colour).all(), (x, y)
    assert (picture[70, 100] == 90).all(), "the inside of the box was painted"
    assert (picture[110:, :50] == 90).all()
    assert (GREY == 90).all()


def test_first_classes_have_colours_far_apart() -> None:
    colours = np.array([class_colour(i) for i in range(30)], float)
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert gaps[np.triu_indices(30, 1)].min() > 15
    assert np.linalg.norm(np.diff(colours, axis=0), axis=1).min() > 90
    assert class_colour(5) == class_colour(5)


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (16, 16), (900, 1400)])
def test_every_size_of_image_can_be_drawn_on(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    h, w = size
    boxes = [[0, 0, w, h], [-50, -50, w * 2, h * 2], [w / 2, h / 2, w / 2, h / 2]]
    picture = draw_detections(image, _found(boxes, [0.1, 0.2, 0.3], ("naïve 名", "b")))
    assert picture.shape == image.shape
    assert picture.any()


def test_labels_scale_with_the_image() -> None:
    heights = []
    for factor in (1, 4):
        image = np.full((300 * factor, 400 * factor, 3), 90, np.uint8)
        box = [100 * factor, 100 * factor, 300 * factor, 250 * factor]
        picture = draw_detections(image, _found([box], [0.9], ("cat",)))
        rows = (picture[:, box[0] + 4 * factor] != 90).any(axis=1)
        heights.append(rows[: box[1]].sum())
    assert heights[1] > 2.5 * heights[0]


def test_low_scores_and_broken_boxes_are_left_out() -> None:
    found = _found([[10, 10, 50, 50], [60, 60, 90, 90]], [0.9, 0.2], ("a", "b"))
    both = draw_detections(GREY, found)
    high = draw_detections(GREY, found, score_threshold=0.5)
    assert (both[60:91, 60:91] != 90).any()
    assert (high[60:91, 60:91] == 90).all()
    broken = _found([[np.nan, 0, 5, 5], [0, 0, np.inf, 5]], [0.9, 0.9], ("a",))
    np.testing.assert_array_equal(draw_detections(GREY, broken), GREY)
    np.testing.assert_array_equal(draw_detections(GREY, Detections.empty()), GREY)


def test_targets_mark_crowds() -> None:
    boxes = np.array([[40, 40, 160, 110]], np.float32)
    plainly = draw_targets(GREY, Targets(boxes, np.zeros(1, np.int64)), ("cat",))
    crowd = draw_targets(GREY, Targets(boxes, np.zeros(1, np.int64), np.ones(1, bool)), ("cat",))
    assert (crowd != 90).any(axis=2).sum() > (plainly != 90).any(axis=2).sum()


def test_text_becomes_ascii() -> None:
    assert plain("café 名") == "cafe ?"


def test_side_by_side_enlarges_small_images() -> None:
    image = np.full((60, 90, 3), 90, np.uint8)
    targets = Targets(np.array([[10, 10, 50, 50]], np.float32), np.zeros(1, np.int64))
    found = _found([[10, 10, 50, 50], [0, 0, 9, 9]], [0.9, 0.1], ("cat",))
    picture = side_by_side(image, targets, found, title="a.jpg")
    assert picture.shape[0] > 480
    assert picture.shape[1] > 2 * 720
    header = picture.shape[0] - 480
    left, right = picture[header:, :720], picture[header:, -720:]
    inside = (slice(100, 380), slice(100, 380))
    np.testing.assert_array_equal(left[inside], right[inside])
    assert (left[:60] == 90).all(), "a prediction below the threshold was drawn"
    assert (picture[:header] < 60).any(), "no caption"


def test_image_files_come_back(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = write_image(tmp_path / "deep" / "a.png", image)
    np.testing.assert_array_equal(read_image(path), image)
    assert read_image(image) is image


def test_unusable_images_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.xyz"):
        write_image(tmp_path / "a.xyz", GREY)
    with pytest.raises(UserError, match="uint8 of shape"):
        read_image(np.zeros((3, 4), np.uint8))
    with pytest.raises(TypeError, match="NoneType"):
        read_image(None)  # type: ignore[arg-type]
