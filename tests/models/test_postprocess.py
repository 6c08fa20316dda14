from __future__ import annotations

import numpy as np
import pytest

from unidet.models.box_coder import BoxCoder
from unidet.models.boxes import clip_boxes
from unidet.models.postprocess import PostProcess

ANCHORS = np.array(
    [(0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60), (90, 90, 110, 110)], np.float32
)
#: One level of three anchors and one of one.
LEVELS = (ANCHORS[:3], ANCHORS[3:])
SIZES = {"image_size": (100, 100), "padded_size": (128, 128)}


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability)).astype(np.float32)


SCORES = np.array([(0.9, 0.02), (0.8, 0.7), (0.3, 0.05), (0.6, 0.01)])
DELTAS = np.zeros((4, 4), np.float32)


def run(**settings: object) -> object:
    extra = {key: settings.pop(key) for key in ("scale", "class_names") if key in settings}
    post = PostProcess(BoxCoder(), **settings)
    return post(logit(SCORES), DELTAS, LEVELS, **SIZES, **extra)


def test_threshold_suppression_and_order() -> None:
    found = run()
    # Anchor 1 overlaps anchor 0 by 9/11: suppressed in class 0, kept in class 1.
    assert found.labels.tolist() == [0, 1, 0, 0]
    assert np.allclose(found.scores, (0.9, 0.7, 0.6, 0.3), atol=1e-6)
    assert np.array_equal(found.boxes_xyxy[2], (90, 90, 100, 100))
    assert found.boxes_xyxy.dtype == np.float32 and found.labels.dtype == np.int64


def test_threshold_is_strict() -> None:
    post = PostProcess(BoxCoder(), score_threshold=0.5)
    logits = np.array([[0.0, 1e-6]], np.float32)
    found = post(logits, DELTAS[:1], [ANCHORS[:1]], **SIZES)
    assert found.labels.tolist() == [1]
    everything = PostProcess(BoxCoder(), score_threshold=0.0, max_detections=None)
    assert (
        len(everything(np.full((1, 2), -50, np.float32), DELTAS[:1], [ANCHORS[:1]], **SIZES)) == 2
    )
    nothing = PostProcess(BoxCoder(), score_threshold=1.0)
    assert len(nothing(np.full((1, 2), 50, np.float32), DELTAS[:1], [ANCHORS[:1]], **SIZES)) == 0
    with pytest.raises(ValueError, match="score_threshold"):
        run(score_threshold=1.5)


def test_best_candidates_of_each_level() -> None:
    found = run(pre_nms=1, nms_iou=1.0)
    assert np.allclose(found.scores, (0.9, 0.6), atol=1e-6)


def test_number_of_detections() -> None:
    assert np.allclose(run(max_detections=2).scores, (0.9, 0.7), atol=1e-6)


def test_original_pixels() -> None:
    found = run(scale=(2.0, 0.5), class_names=("a", "b"))
    assert np.allclose(found.boxes_xyxy[0], (0, 0, 20, 5))
    assert found.class_names == ("a", "b")


def test_clipping_after_suppression_drops_what_lies_outside() -> None:
    post = PostProcess(BoxCoder(), clip="after_nms")
    outside = np.array([(120, 120, 140, 140)], np.float32)
    logits = np.array([[3.0]], np.float32)
    assert len(post(logits, DELTAS[:1], [outside], **SIZES)) == 0
    kept = PostProcess(BoxCoder(), clip="before_nms")(logits, DELTAS[:1], [outside], **SIZES)
    assert np.array_equal(kept.boxes_xyxy, [(100, 100, 100, 100)])
    one_sided = PostProcess(BoxCoder(), clip="one_sided")(logits, DELTAS[:1], [outside], **SIZES)
    assert np.array_equal(one_sided.boxes_xyxy, [(120, 120, 128, 128)])


def test_one_sided_clipping_leaves_negative_sides() -> None:
    box = np.array([(130, -5, 140, 3)], np.float32)
    assert np.array_equal(clip_boxes(box, 100, 100, one_sided=True), [(130, 0, 100, 3)])
    assert np.array_equal(clip_boxes(box, 100, 100), [(100, 0, 100, 3)])


def test_no_candidates_and_broken_numbers() -> None:
    post = PostProcess(BoxCoder())
    for value in (-20.0, np.nan):
        found = post(np.full((4, 2), value, np.float32), DELTAS, LEVELS, **SIZES)
        assert len(found) == 0 and found.boxes_xyxy.shape == (0, 4)
