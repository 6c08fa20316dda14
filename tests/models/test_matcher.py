from __future__ import annotations

import numpy as np
import pytest

from unidet.models.boxes.matcher import BACKGROUND, IGNORED, Matcher
from unidet.structures import Targets


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def targets(*rows: tuple[float, float, float, float], crowd: tuple[int, ...] = ()) -> Targets:
    flags = np.zeros(len(rows), bool)
    flags[list(crowd)] = True
    return Targets(boxes(*rows), np.zeros(len(rows), np.int64), crowd=flags)


# IoU with (0, 0, 10, 10): 1, 0.5, 0.45, 0.3, 0.
ANCHORS = boxes((0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4.5), (0, 0, 10, 3), (20, 20, 30, 30))


def test_thresholds() -> None:
    matched = Matcher(low_quality=None)(ANCHORS, targets((0, 0, 10, 10)))
    assert matched.tolist() == [0, 0, IGNORED, BACKGROUND, BACKGROUND]


def test_an_object_without_a_good_anchor() -> None:
    hard = targets((0, 0, 10, 3), (20, 20, 23, 30))
    anchors = boxes((0, 0, 10, 10), (20, 20, 30, 30))
    assert Matcher(low_quality=None)(anchors, hard).tolist() == [BACKGROUND, BACKGROUND]
    assert Matcher(low_quality="target")(anchors, hard).tolist() == [0, 1]
    assert Matcher(low_quality="anchor")(anchors, hard).tolist() == [0, 1]


def test_who_gets_an_anchor_that_two_objects_want() -> None:
    # The only anchor overlaps the first object more, and is the best that the second has.
    both = targets((0, 0, 10, 9), (0, 0, 10, 2))
    anchor = boxes((0, 0, 10, 10))
    assert Matcher(low_quality="target")(anchor, both).tolist() == [1]
    assert Matcher(low_quality="anchor")(anchor, both).tolist() == [0]


def test_ties_all_become_positive() -> None:
    anchors = boxes((0, 0, 10, 10), (0, 10, 10, 20))
    split = targets((0, 5, 10, 15))
    assert Matcher(low_quality="target")(anchors, split).tolist() == [0, 0]


def test_an_object_that_no_anchor_touches_takes_none() -> None:
    far = targets((100, 100, 110, 110))
    for rule in (None, "target", "anchor"):
        assert (Matcher(low_quality=rule)(ANCHORS, far) == BACKGROUND).all()


def test_no_objects_and_no_area() -> None:
    assert (Matcher()(ANCHORS, targets()) == BACKGROUND).all()
    assert (Matcher()(ANCHORS, targets((3, 3, 3, 8))) == BACKGROUND).all()


def test_crowd_regions() -> None:
    crowded = targets((20, 20, 40, 40), (0, 0, 10, 10), crowd=(0,))
    assert Matcher(low_quality=None)(ANCHORS, crowded).tolist() == [
        1, 1, IGNORED, BACKGROUND, BACKGROUND,
    ]  # fmt: skip
    kept_out = Matcher(low_quality=None, ignore_overlap=0.5)(ANCHORS, crowded)
    assert kept_out.tolist() == [1, 1, IGNORED, BACKGROUND, IGNORED]


def test_agrees_with_the_full_matrix() -> None:
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 80, (400, 2))
    anchors = np.concatenate([low, low + generator.uniform(5, 40, (400, 2))], 1).astype(np.float32)
    objects = Targets(anchors[:7] + np.float32(2), np.zeros(7, np.int64))
    a, b = anchors[:, None], objects.boxes_xyxy[None]
    sides = np.clip(
        np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None
    )
    shared = sides.prod(-1)
    area = lambda x: (x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1])  # noqa: E731
    iou = shared / (area(a) + area(b) - shared)
    expected = np.where(iou.max(1) >= 0.5, iou.argmax(1), IGNORED)
    expected[iou.max(1) < 0.4] = BACKGROUND
    assert np.array_equal(Matcher(low_quality=None)(anchors, objects), expected)


@pytest.mark.parametrize(
    "settings", [{"positive_iou": 0.3}, {"negative_iou": -1}, {"low_quality": "yes"}]
)
def test_bad_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings)).split("_")[-1]):
        Matcher(**settings)
