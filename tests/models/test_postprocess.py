from __future__ import annotations

import numpy as np
import pytest

from unidet.backends import ops
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.geometry import clip_boxes
from unidet.models.retinanet.postprocess import PostProcess, worth_copying

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


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.65, 0.99])
def test_what_is_worth_copying_gives_the_same_detections(backend: str, threshold: float) -> None:
    """The form for GPUs; a NaN hides no other class of its anchor."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, (60, 3)).astype(np.float32)
    logits[5] = (np.nan, 3, -9)
    deltas = rng.normal(0, 0.3, (60, 4)).astype(np.float32)
    corners = rng.uniform(0, 80, (60, 2))
    anchors = np.concatenate([corners, corners + 20], 1).astype(np.float32)
    levels = [anchors[:40], anchors[40:40], anchors[40:]]
    post = PostProcess(BoxCoder(), score_threshold=threshold, pre_nms=15)
    want = post(logits, deltas, levels, **SIZES)
    native = [ops.asarray(array, backend=backend) for array in (logits, deltas)]
    rows, moves, left = worth_copying(*native, levels, threshold)
    assert len(rows) == len(moves) == sum(map(len, left))
    assert len(rows) == (np.nan_to_num(logits, nan=-99) > post_logit(threshold)).any(1).sum()
    found = post(rows, moves, left, **SIZES)
    np.testing.assert_array_equal(found.boxes_xyxy, want.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, want.scores)
    np.testing.assert_array_equal(found.labels, want.labels)


def post_logit(probability: float) -> float:
    return float(logit(np.array(probability))) if probability else -np.inf
