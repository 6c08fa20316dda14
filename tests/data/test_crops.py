"""Random windows and DETR's change of scale: boxes follow the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.data import DetectionDataset, FirstEpochs, Loader, Preprocess, create_augmentation
from unidet.data.crops import DETR_SIZES, DetrCropResize, RandomSizeCrop
from unidet.structures import Targets


def painted(seed: int, size: tuple[int, int] = (60, 90)) -> tuple[np.ndarray, Targets]:
    """Each pixel says where it is; four boxes, whole pixels, with marks to tell them apart."""
    h, w = size
    image = np.zeros((h, w, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(h)[:, None], np.arange(w)
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, (w, h), (4, 2, 2)), axis=1)
    corners[:, 1] += 1
    boxes = corners.reshape(4, 4).astype(np.float32)
    marks = np.array([True, False, True, False])
    return image, Targets(boxes, np.arange(4) + 7, marks, ~marks)


def judged(window: np.ndarray, targets: Targets) -> dict[int, list[float]]:
    """What is left of each box by looking at every pixel: label to corners in the window."""
    left: dict[int, list[float]] = {}
    for label, (x1, y1, x2, y2) in zip(targets.labels.tolist(), targets.boxes_xyxy):
        rows, columns = window[..., 0], window[..., 1]
        inside = (rows >= y1) & (rows < y2) & (columns >= x1) & (columns < x2)
        if inside.any():
            y, x = np.nonzero(inside)
            left[label] = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    return left


def test_a_window_keeps_what_lies_in_it() -> None:
    sizes, dropped, places = set(), 0, set()
    for seed in range(60):
        image, targets = painted(seed)
        before = targets.boxes_xyxy.copy()
        window, found = RandomSizeCrop([20, 30])(image, targets, np.random.default_rng(seed))
        sizes |= set(window.shape[:2])
        places.add(tuple(window[0, 0, :2]))
        want = judged(window, targets)
        assert dict(zip(found.labels.tolist(), found.boxes_xyxy.tolist())) == want
        np.testing.assert_array_equal(found.crowd, found.labels % 2 == 1)
        np.testing.assert_array_equal(found.ignore, found.labels % 2 == 0)
        np.testing.assert_array_equal(targets.boxes_xyxy, before)
        dropped += len(targets) - len(found)
    assert sizes == set(range(20, 31)) and dropped > 20 and len(places) > 50


def test_every_place_of_a_window_is_met_and_no_other() -> None:
    image, targets = painted(0, (6, 7))
    crop, rng = RandomSizeCrop([5, 6]), np.random.default_rng(0)
    seen = {crop(image, targets, rng)[0][..., :2].tobytes() for _ in range(400)}
    # 5 or 6 of 6 rows: 2 + 1 places; 5 or 6 of 7 columns: 3 + 2 places.
    assert len(seen) == 3 * 5


def test_small_pictures_stay_whole_and_slivers_are_kept() -> None:
    image, targets = painted(1, (10, 40))
    window, _ = RandomSizeCrop([20, 40])(image, targets, np.random.default_rng(2))
    assert window.shape[0] == 10 and 20 <= window.shape[1] <= 40
    boxes = np.array([[0, 0, 0.25, 10], [0, 0, 0, 10]], np.float32)
    whole = Targets(boxes, np.arange(2))
    _, kept = RandomSizeCrop([40, 40])(image, whole, np.random.default_rng(0))
    assert kept.labels.tolist() == [0]


@pytest.mark.parametrize("make", [RandomSizeCrop, DetrCropResize])
def test_as_many_draws_whatever_the_outcome(make: type) -> None:
    image, targets = painted(0)
    after = []
    for p in (0.0, 1.0):
        rng = np.random.default_rng(4)
        make(p=p)(image, targets, rng)
        after.append(rng.random())
    assert after[0] == after[1]


def test_detr_boxes_follow_their_pixels() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    image[120:200, 150:260] = 255
    targets = Targets(np.array([[150, 120, 260, 200]], np.float32), np.array([3]))
    augment = DetrCropResize(
        min_sizes=[90, 200], crop_sides=[60, 160], before_crop_sizes=[100, 150], max_size=380, p=0.5
    )
    rng = np.random.default_rng(0)
    shapes, met = set(), 0
    for _ in range(80):
        out, found = augment(image, targets, rng)
        shapes.add(out.shape[:2])
        assert min(out.shape[:2]) in (90, 200) or max(out.shape[:2]) == 380
        rows, columns = np.nonzero(out[..., 0] > 127)
        if len(rows) and len(found):
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # A window's own pixels are several of the result's wide.
            np.testing.assert_allclose(found.boxes_xyxy[0], seen, atol=4)
            met += 1
    # Half are whole: 90 x 120 and 200 x 266.
    assert {(90, 120), (200, 267)} <= shapes and len(shapes) > 20 and met > 60


def test_the_share_and_sizes_of_detr() -> None:
    assert DETR_SIZES == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    image = np.zeros((1000, 1200, 3), np.uint8)
    cut = DetrCropResize().parts[0]
    none = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    shapes = [cut(image, none, np.random.default_rng(i))[0].shape[:2] for i in range(60)]
    windows = [shape for shape in shapes if shape != (1000, 1200)]
    assert 18 < len(windows) < 42
    assert all(384 <= side <= 600 for shape in windows for side in shape)
    assert max(h for h, _ in windows) > 500


def test_a_loader_leaves_the_last_resize_to_the_model(scenes: DetectionDataset) -> None:
    rule = Preprocess(resize="detr", min_size=48, max_size=90, pad_divisor=1)
    augment = create_augmentation(
        "detr_crop_resize",
        {"min_sizes": [24, 36], "crop_sides": [30, 40], "before_crop_sizes": [50], "p": 0.5},
    )
    loader = Loader(scenes, rule, 1, seed=1, augmentations=[FirstEpochs(augment, 1)])
    whole = 0
    for i, batch in enumerate(loader.epoch(0)):
        h, w = batch.image_sizes[0]
        assert min(h, w) in (24, 36) and max(h, w) <= 90
        exact, _, _ = rule.apply(scenes.read(i), min_size=min(h, w))
        if exact.shape[1:] == (h, w) and np.array_equal(batch.images[0], exact):
            whole += 1
            scale = [w / 128, h / 96] * 2
            want = scenes.annotations[i].boxes_xyxy * np.array(scale)
            np.testing.assert_allclose(batch.targets[0].boxes_xyxy, want, rtol=1e-5)
    assert 2 <= whole <= 8
    assert {min(b.image_sizes[0]) for b in loader.epoch(1)} == {48}
    with pytest.raises(ValueError, match="RandomResize"):
        Loader(scenes, Preprocess(resize="fixed", size=(32, 32)), 1, augmentations=[augment])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("random_size_crop", {"sides": [50, 40]}, "`sides`.*two rising sizes.*50, 40"),
        ("random_size_crop", {"sides": [40]}, "`sides`"),
        ("random_size_crop", {"sides": "ab"}, "`sides`"),
        ("random_size_crop", {"p": -1}, "`p`"),
        ("detr_crop_resize", {"crop_sides": [0, 40]}, "`crop_sides`"),
        ("detr_crop_resize", {"before_crop_sizes": []}, "`before_crop_sizes`"),
        ("detr_crop_resize", {"min_sizes": ["480"]}, "`min_sizes`.*'480'"),
        ("detr_crop_resize", {"max_size": 0}, "`max_size`"),
        ("detr_crop_resize", {"p": 2}, "`p`"),
        ("detr_crop_resize", {"sizes": [3]}, "detr_crop_resize.*sizes"),
        ("detr_crop_rezise", {}, "Did you mean 'detr_crop_resize'"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_augmentation(name, arguments)
