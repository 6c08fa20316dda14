"""Samplers, levels, proposals, targets and the TBLR coder, each on its own."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.backends import ops, random
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import BACKGROUND, IGNORED, Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.boxes.targets import PAD
from unidet.models.boxes.tblr_coder import TBLRCoder
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.faster_rcnn.proposals import ProposalSelector, inside_image, top_indices
from unidet.models.faster_rcnn.roi_levels import roi_levels
from unidet.models.faster_rcnn.targets import class_rows, roi_targets, rpn_targets
from unidet.structures import Targets


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def targets(*rows: tuple[float, ...]) -> Targets:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Targets(table[:, :4].copy(), table[:, 4].astype(np.int64))


# --- samplers -----------------------------------------------------------------------------------

MATCHED = np.array([0] * 6 + [BACKGROUND] * 50 + [IGNORED] * 10 + [3] * 6)


def test_a_sample_has_its_size_and_share() -> None:
    positive, negative = RandomSampler(20, 0.25)(MATCHED, random.stream(0, "a"))
    assert len(positive) == 5 and len(negative) == 15
    assert (MATCHED[positive] >= 0).all() and (MATCHED[negative] == BACKGROUND).all()
    assert len(np.unique(np.concatenate([positive, negative]))) == 20
    assert (np.diff(positive) > 0).all() and (np.diff(negative) > 0).all()


def test_background_fills_what_positives_leave() -> None:
    positive, negative = RandomSampler(40, 0.9)(MATCHED, random.stream(0, "a"))
    assert len(positive) == 12 and len(negative) == 28
    positive, negative = RandomSampler(1000, 0.5)(MATCHED, random.stream(0, "a"))
    assert len(positive) == 12 and len(negative) == 50
    nothing = np.full(3, IGNORED)
    assert [len(part) for part in RandomSampler(4, 0.5)(nothing, random.stream(0))] == [0, 0]


def test_a_sample_depends_on_its_place_alone() -> None:
    def draw(*place: int | str) -> list[int]:
        with random.at(*place):
            return RandomSampler(8, 0.5)(MATCHED, random.local_stream("roi", 0))[1].tolist()

    assert draw(1, "step", 4) == draw(1, "step", 4)
    assert draw(1, "step", 4) != draw(1, "step", 5)
    assert draw(1, "step", 4) != draw(2, "step", 4)
    with random.at(1, "step"), random.within(4):
        inside = RandomSampler(8, 0.5)(MATCHED, random.local_stream("roi", 0))[1].tolist()
    assert inside == draw(1, "step", 4)


# --- TBLR ---------------------------------------------------------------------------------------


def test_tblr_distances_of_a_known_box() -> None:
    anchor = boxes((10, 20, 30, 60))  # centre (20, 40), 20 wide, 40 high
    found = TBLRCoder().encode(boxes((15, 30, 40, 50)), anchor)
    np.testing.assert_allclose(found, [[10 / 40, 10 / 40, 5 / 20, 20 / 20]], rtol=1e-6)
    np.testing.assert_allclose(TBLRCoder(2.0).encode(boxes((15, 30, 40, 50)), anchor), found / 2)


@pytest.mark.parametrize("normalizer", [1.0, 4.0])
def test_tblr_round_trip(backend: str, normalizer: float) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (2, 7, 2))
    anchors, wanted = np.concatenate([corner, corner + rng.uniform(1, 60, (2, 7, 2))], 2)
    anchors, wanted = anchors.astype(np.float32), wanted.astype(np.float32)
    coder = TBLRCoder(normalizer)
    deltas = coder.encode(wanted, anchors)
    np.testing.assert_allclose(coder.decode(deltas, anchors), wanted, atol=1e-3)
    tensor = ops.asarray(deltas, backend=backend)
    np.testing.assert_allclose(ops.to_numpy(coder.decode(tensor, anchors)), wanted, atol=1e-3)


def test_tblr_gradient(backend: str) -> None:
    anchors = boxes((0, 0, 10, 20), (5, 5, 9, 7))
    deltas = ops.asarray(np.ones((2, 4), np.float32), backend=backend)
    _, (gradient,) = ops.grad(lambda d: ops.sum(TBLRCoder().decode(d, anchors)), [deltas])
    expected = [[-20, 20, -10, 10], [-2, 2, -4, 4]]
    np.testing.assert_allclose(ops.to_numpy(gradient), expected, rtol=1e-6)


def test_tblr_normalizer_is_checked() -> None:
    with pytest.raises(ValueError, match="normalizer"):
        TBLRCoder(0)


# --- levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["torchvision", "mmdet", "detectron2"])
def test_levels_by_size(rule: str) -> None:
    sides = [1, 111, 113, 223, 225, 447, 449, 5000]
    table = boxes(*((3, 5, 3 + side, 5 + side) for side in sides))
    assert roi_levels(table, rule, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert roi_levels(boxes((4, 4, 4, 9), (9, 9, 3, 3)), rule, 4).tolist() == [0, 0]
    assert roi_levels(table, rule, 1).tolist() == [0] * 8
    assert len(roi_levels(boxes(), rule, 4)) == 0


def test_level_rules_differ_at_the_border() -> None:
    # A side a hair below 112: only the larger additions lift it.
    edge = boxes((0, 0, 112 * (1 - 4e-7), 112 * (1 - 4e-7)))
    assert [int(roi_levels(edge, rule, 4)[0]) for rule in ("torchvision", "mmdet")] == [1, 1]
    assert int(roi_levels(edge, "detectron2", 4)[0]) in (0, 1)
    assert roi_levels(boxes((0, 0, 112, 112)), "detectron2", 4).tolist() == [1]
    with pytest.raises(ValueError, match="rule"):
        roi_levels(edge, "coco", 4)


# --- proposals ----------------------------------------------------------------------------------


def test_top_indices() -> None:
    values = np.array([1, 3, np.nan, 3, 0, 3, 2], np.float32)
    assert top_indices(values, 2).tolist() == [1, 3]
    assert top_indices(values, 5).tolist() == [1, 3, 5, 6, 0]
    assert top_indices(values, 99).tolist() == [1, 3, 5, 6, 0, 4, 2]
    rng = np.random.default_rng(0)
    many = rng.integers(0, 20, 500).astype(np.float32)
    assert top_indices(many, 37).tolist() == np.argsort(-many, kind="stable")[:37].tolist()


LEVELS = (
    boxes((0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60), (0, 0, 4, 4)),
    boxes((0, 0, 10, 10), (90, 90, 120, 120)),
)


def select(logits: list[float], **settings: object) -> tuple[np.ndarray, np.ndarray]:
    sizes = {key: settings.pop(key, 100) for key in ("pre_nms", "post_nms")}
    deltas = np.zeros((6, 4), np.float32)
    chosen = ProposalSelector(BoxCoder(), **settings)
    return chosen(np.array(logits, np.float32), deltas, LEVELS, image_size=(100, 100), **sizes)


def test_suppression_stays_within_a_level() -> None:
    found, scores = select([5, 4, 3, 2, 1, 0], nms_iou=0.7)
    # The second box falls to the first; the same box on the other level stays.
    assert found.tolist() == [
        [0, 0, 10, 10],
        [50, 50, 60, 60],
        [0, 0, 4, 4],
        [0, 0, 10, 10],
        [90, 90, 100, 100],
    ]
    assert scores.tolist() == [5, 3, 2, 1, 0]


def test_limits_of_proposals() -> None:
    assert select([0, 4, 3, 2, 1, 5], pre_nms=1)[1].tolist() == [5, 4]
    assert select([5, 4, 3, 2, 1, 0], post_nms=2)[1].tolist() == [5, 3]
    assert 2 not in select([5, 4, 3, 2, 1, 0], min_side=5)[1].tolist()
    assert select([5, 4, 3, 2, -1, -2], score_threshold=0.5)[1].tolist() == [5, 3, 2]


def test_what_is_not_finite_is_no_proposal() -> None:
    found, scores = select([np.nan, 4, np.inf, 2, 1, 0])
    assert scores.tolist() == [4, 2, 1, 0] and np.isfinite(found).all()
    deltas = np.full((6, 4), np.nan, np.float32)
    empty = ProposalSelector(BoxCoder())(
        np.zeros(6, np.float32), deltas, LEVELS, image_size=(9, 9), pre_nms=9, post_nms=9
    )
    assert empty[0].shape == (0, 4)


def test_boxes_beyond_the_image_vanish() -> None:
    found, _ = ProposalSelector(BoxCoder())(
        np.zeros(6, np.float32),
        np.zeros((6, 4), np.float32),
        LEVELS,
        image_size=(40, 40),
        pre_nms=9,
        post_nms=9,
    )
    assert (found[:, 2:] > found[:, :2]).all() and found.max() <= 40
    assert len(found) == 3


def test_anchors_that_cross_the_border() -> None:
    table = boxes((0, 0, 10, 10), (-1, 0, 5, 5), (5, 5, 20, 9), (5, 5, 19, 9))
    assert inside_image(table, (30, 20), 0).tolist() == [True, False, False, True]
    assert inside_image(table, (30, 20), 2).tolist() == [True] * 4


# --- targets ------------------------------------------------------------------------------------

ANCHORS = boxes((0, 0, 10, 10), (0, 0, 10, 9), (40, 40, 50, 50), (70, 70, 80, 80), (-5, 0, 5, 10))


def anchor_goals(
    normalizer: str = "sampled", border: float | None = None, **sampler: float
) -> object:
    return rpn_targets(
        ANCHORS,
        [targets((0, 0, 10, 10, 1)), targets()],
        [(100, 100), (100, 100)],
        matcher=Matcher(0.7, 0.3, low_quality="anchor"),
        sampler=RandomSampler(int(sampler.get("size", 100)), 0.5),
        coder=BoxCoder(),
        border=border,
        normalizer=normalizer,
    )


def test_goals_of_the_anchors() -> None:
    goal = anchor_goals()
    asked = goal.weights > 0
    # The fifth anchor of the first image, with an IoU of a third, is left out.
    assert goal.index[asked].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert goal.labels[asked].tolist() == [1, 1] + [0] * 7
    assert goal.boxes.index[goal.boxes.weights > 0].tolist() == [0, 1]
    assert len(goal.index) % PAD == 0 and len(goal.boxes.index) % PAD == 0
    height = np.log(np.float32(10 / 9))
    np.testing.assert_allclose(goal.boxes.deltas[1], [0, 0.5 / 9, 0, height], atol=1e-6)
    assert not goal.boxes.deltas[2:].any()


@pytest.mark.parametrize(
    ("normalizer", "divisor"), [("sampled", 9), ("sampled_each", 10), ("constant", 200)]
)
def test_divisors_of_the_first_stage(normalizer: str, divisor: int) -> None:
    goal = anchor_goals(normalizer)
    assert goal.weights.max() == pytest.approx(1 / divisor)
    assert goal.boxes.weights.max() == pytest.approx(1 / divisor)


def test_anchors_across_the_border_are_not_asked() -> None:
    goal = anchor_goals(border=0)
    assert goal.index[goal.weights > 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def region_goals(config: FasterRCNNConfig, rows: list[Targets], given: list[np.ndarray]) -> object:
    return roi_targets(
        given,
        rows,
        matcher=Matcher(0.5, 0.5, low_quality=None),
        sampler=RandomSampler(100, 0.5),
        coder=BoxCoder((0.1, 0.1, 0.2, 0.2)),
        rows=class_rows(config),
        add_ground_truth=config.add_ground_truth,
    )


LAYOUTS = [
    # background, slot, background boxes; row of the background, of label 2, group of label 2
    ({"background": "last"}, 4, 2, 2),
    ({"background": "last", "box_background": True}, 4, 2, 2),
    ({"background": "first"}, 0, 3, 2),
    ({"background": "first", "box_background": True}, 0, 3, 3),
    ({"background": "first", "background_slot": 0, "box_background": True}, 0, 2, 2),
    ({"background": "first", "background_slot": 0}, 0, 2, 1),
    ({"background": "last", "class_agnostic": True}, 4, 2, 0),
]


@pytest.mark.parametrize(("changes", "background", "row", "group"), LAYOUTS)
def test_rows_of_the_outputs(changes: dict, background: int, row: int, group: int) -> None:
    config = FasterRCNNConfig(num_classes=4, depth=18, **changes)
    given = [boxes((0, 0, 10, 9), (40, 40, 50, 50)), boxes((1, 1, 2, 2), (0, 0, 9, 10))]
    goal = region_goals(config, [targets(), targets((0, 0, 10, 10, 2))], given)
    # The object itself is a proposal, too.
    assert goal.rois.tolist()[2:] == [[0, 0, 9, 10], [0, 0, 10, 10], [1, 1, 2, 2]]
    assert goal.images.tolist() == [0, 0, 1, 1, 1]
    assert goal.classes.tolist() == [background] * 2 + [row] * 2 + [background]
    np.testing.assert_allclose(goal.weights, 0.2)
    rows = config.box_rows
    assert goal.boxes.index[:2].tolist() == [2 * rows + group, 3 * rows + group]
    np.testing.assert_allclose(goal.boxes.weights[:3], [0.2, 0.2, 0])
    assert not goal.boxes.deltas[1].any() and goal.boxes.deltas[0, 0] == pytest.approx(5 / 9)


def test_objects_are_proposals_only_where_asked() -> None:
    config = FasterRCNNConfig(num_classes=4, depth=18, add_ground_truth=False)
    goal = region_goals(config, [targets((0, 0, 10, 10, 2))], [boxes((1, 1, 2, 2))])
    assert goal.rois.tolist() == [[1, 1, 2, 2]] and goal.classes.tolist() == [4]


def test_nothing_to_look_at_weighs_nothing() -> None:
    config = FasterRCNNConfig(num_classes=4, depth=18)
    goal = region_goals(config, [targets(), targets()], [boxes(), boxes()])
    assert goal.rois.shape == (1, 4) and goal.images.tolist() == [0]
    assert not goal.weights.any() and not goal.boxes.weights.any()
    flat = region_goals(config, [targets((5, 5, 5, 9, 0))], [boxes()])
    assert not flat.weights.any()
