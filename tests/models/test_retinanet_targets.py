from __future__ import annotations

import numpy as np
import pytest

from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import Matcher
from unidet.models.boxes.targets import PAD
from unidet.models.retinanet.targets import RetinaNetTargets, build_targets
from unidet.structures import Targets

ANCHORS = np.array(
    [(0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4.5), (20, 20, 30, 30), (20, 20, 31, 30)],
    np.float32,
)
EMPTY = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def objects(*rows: tuple[float, ...]) -> Targets:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Targets(table[:, :4].copy(), table[:, 4].astype(np.int64))


def build(*images: Targets, normalizer: str = "batch", **settings: int) -> RetinaNetTargets:
    return build_targets(
        ANCHORS,
        images,
        matcher=Matcher(low_quality=None),
        coder=BoxCoder(),
        num_classes=4,
        normalizer=normalizer,
        **settings,
    )


def test_classes_weights_and_positives() -> None:
    goal = build(objects((0, 0, 10, 10, 3)), EMPTY, objects((20, 20, 30, 30, 1)))
    assert goal.classes.tolist() == [[3, 3, -1, -1, -1], [-1] * 5, [-1, -1, -1, 1, 1]]
    assert goal.num_positives == (2, 0, 2)
    # An image without objects counts as one positive: 2 + 1 + 2.
    assert np.allclose(goal.class_weights, [[0.2, 0.2, 0, 0.2, 0.2], [0.2] * 5, [0.2] * 5])
    assert goal.positives[:4].tolist() == [0, 1, 13, 14]
    assert np.allclose(goal.box_weights[:4], 0.2) and not goal.box_weights[4:].any()
    assert np.array_equal(goal.boxes[2], (20, 20, 30, 30))
    assert np.allclose(goal.deltas[0], 0)
    assert len(goal.positives) == PAD == len(goal.deltas) == len(goal.anchors)


def test_normaliser_of_each_image() -> None:
    goal = build(objects((0, 0, 10, 10, 3)), EMPTY, normalizer="image")
    assert np.allclose(goal.class_weights[0, [0, 1, 3]], 1 / (2 * 2))
    assert np.allclose(goal.class_weights[1], 1 / 2)
    assert np.allclose(goal.box_weights[:2], 1 / 4)


def test_nothing_to_learn_stays_finite() -> None:
    goal = build(EMPTY, EMPTY)
    assert len(goal.positives) == PAD
    assert not goal.box_weights.any() and np.isfinite(goal.deltas).all()
    assert (goal.positives >= 0).all() and (goal.class_weights > 0).all()


def test_padding_keeps_multiples_as_they_are() -> None:
    many = np.repeat(ANCHORS[:1], PAD, axis=0)
    goal = build_targets(
        many, [objects((0, 0, 10, 10, 0))], matcher=Matcher(), coder=BoxCoder(), num_classes=1
    )
    assert len(goal.positives) == PAD and (goal.box_weights > 0).all()


def test_labels_out_of_range_and_the_background_slot() -> None:
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        build(objects((0, 0, 10, 10, 4)))
    with pytest.raises(ValueError, match="class 0"):
        build(objects((0, 0, 10, 10, 0)), background_slot=0)
    assert build(objects((0, 0, 10, 10, 1)), background_slot=0).num_positives == (2,)


def test_coder_needs_four_positive_deviations() -> None:
    with pytest.raises(ValueError, match="box_std"):
        BoxCoder((1, 1, 0, 1))


def test_decoding_undoes_encoding() -> None:
    boxes = np.array([(3, 4, 9, 20), (1, 1, 2, 2)], np.float32)
    for coder in (BoxCoder(), BoxCoder((0.1, 0.1, 0.2, 0.2))):
        deltas = coder.encode(boxes, ANCHORS[:2])
        assert np.allclose(coder.decode(deltas, ANCHORS[:2]), boxes, atol=1e-4)
