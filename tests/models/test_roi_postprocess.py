"""From the outputs of the second stage to detections."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.scores import softmax
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.faster_rcnn.postprocess import RoIPostProcess
from unidet.models.faster_rcnn.targets import class_rows
from unidet.structures import Detections

BOXES = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [90, 90, 120, 95]], np.float32)


def run(
    probabilities: list[list[float]],
    config: dict | None = None,
    deltas: np.ndarray | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
    **settings: object,
) -> Detections:
    c = FasterRCNNConfig(**{"num_classes": 2, "depth": 18, **(config or {})})
    process = RoIPostProcess(BoxCoder(), class_rows(c), c.num_classes, **settings)
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(probabilities, np.float32)) + 3
    if deltas is None:
        deltas = np.zeros((len(logits), 4 * c.box_rows), np.float32)
    return process(
        softmax(logits), deltas, BOXES[: len(logits)], image_size=(100, 100), scale=scale
    )


FOUR = [[0.7, 0.1, 0.2], [0.6, 0.04, 0.36], [0.0, 0.8, 0.2], [0.5, 0.0, 0.5]]


def test_threshold_and_suppression_by_class() -> None:
    found = run(FOUR)
    # The second box falls to the first as class 0, and stays below the threshold as class 1.
    assert found.labels.tolist() == [1, 0, 0, 1]
    np.testing.assert_allclose(found.scores, [0.8, 0.7, 0.5, 0.1], rtol=1e-6)
    assert found.boxes_xyxy[2].tolist() == [90, 90, 100, 95]
    assert len(run(FOUR, score_threshold=0.6)) == 2
    assert len(run(FOUR, max_detections=3)) == 3
    assert len(run(FOUR, nms_iou=0.9)) == 5


def test_where_the_background_lies() -> None:
    rows = [[0.2, 0.7, 0.1], [0.9, 0.06, 0.04]]
    first = run(rows, {"background": "first"}, nms_iou=1.0)
    assert first.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(first.scores, [0.7, 0.1, 0.06], rtol=1e-6)
    slots = {"background": "first", "background_slot": 0, "num_classes": 3}
    # Slot 0 is the background: labels are those of the other slots.
    slot = run(rows, {**slots, "box_background": True}, nms_iou=1.0)
    assert slot.labels.tolist() == [1, 2, 1]


@pytest.mark.parametrize("box_background", [False, True])
@pytest.mark.parametrize("background", ["first", "last"])
def test_each_class_has_its_box(background: str, box_background: bool) -> None:
    config = {"background": background, "box_background": box_background}
    shift = int(box_background and background == "first")
    deltas = np.zeros((1, 2 + box_background, 4), np.float32)
    deltas[0, shift, 0], deltas[0, 1 + shift, 0] = 1, 2
    row = [0.1, 0.5, 0.4] if background == "first" else [0.5, 0.4, 0.1]
    found = run([row], config, deltas.reshape(1, -1))
    assert found.labels.tolist() == [0, 1]
    assert found.boxes_xyxy[:, 0].tolist() == [10, 20]
    shared = run([row], {**config, "class_agnostic": True}, np.array([[1, 0, 0, 0]], np.float32))
    assert shared.boxes_xyxy[:, 0].tolist() == [10, 10]


def test_boxes_return_to_the_original() -> None:
    after = run(FOUR, scale=(0.5, 2.0), rescale="after_nms")
    before = run(FOUR, scale=(0.5, 2.0), rescale="before_nms")
    assert after.boxes_xyxy[0].tolist() == [25, 100, 30, 120]
    np.testing.assert_array_equal(after.boxes_xyxy, before.boxes_xyxy)


def test_small_and_empty_boxes() -> None:
    assert len(run(FOUR, min_side=7)) == 3
    thin = np.zeros((1, 8), np.float32)
    thin[0, 0] = -50  # far to the left, so that clipping leaves no width
    assert len(run([[0.9, 0.05, 0.05]], deltas=thin)) == 1
    assert len(run([[0.9, 0.05, 0.05]], deltas=thin, drop_empty=True)) == 0
    assert len(run([[0.9, 0.05, 0.05]], deltas=thin, min_side=1e-2)) == 0


def test_soft_suppression_lowers_scores() -> None:
    rows = [[0.9, 0.0, 0.1], [0.8, 0.0, 0.2], [0.7, 0.0, 0.3]]
    found = run(rows, soft_nms="gaussian", soft_sigma=0.5)
    iou = 90 / 110
    expected = [0.9, 0.7, 0.8 * np.exp(-(iou**2) / 0.5)]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
    linear = run(rows, soft_nms="linear", nms_iou=0.5)
    np.testing.assert_allclose(linear.scores, [0.9, 0.7, 0.8 * (1 - iou)], rtol=1e-5)
    assert len(run(rows, soft_nms="linear", nms_iou=0.5, soft_min_score=0.3)) == 2


def test_what_is_not_finite_is_not_detected() -> None:
    found = run([[np.nan, 0.5, 0.5], [0.7, 0.1, 0.2]])
    assert found.labels.tolist() == [0, 1] and np.isfinite(found.boxes_xyxy).all()
    deltas = np.full((1, 8), np.nan, np.float32)
    assert len(run([[0.8, 0.1, 0.1]], deltas=deltas)) == 0
    assert len(run(np.zeros((0, 3)))) == 0  # type: ignore[arg-type]
    assert softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)).tolist() == [
        [1, 0],
        [0.5, 0.5],
    ]
