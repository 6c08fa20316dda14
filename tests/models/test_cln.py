"""UniDetector's first stage: what it learns, what it proposes, how it scores."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

from tests.models.steps import step
from unidet.backends import available, nn, ops, random
from unidet.models import create_model
from unidet.models.boxes.geometry import box_area, intersection
from unidet.models.boxes.matcher import Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.unidetector.cln_targets import (
    centerness,
    quality_targets,
    roi_quality,
    without_border_targets,
)
from unidet.structures import Batch, Targets

NAME = "unidetector_cln_r18_fpn"
TINY: dict[str, Any] = {
    "fpn_channels": 16,
    "head_channels": 32,
    "anchor_sizes": ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,)),
    "rpn_batch": 32,
    "roi_batch": 32,
    "rpn_pre_nms_train": 40,
    "rpn_pre_nms_test": 30,
}
SIZE = (64, 96)
LOSSES = {"loss_rpn_box", "loss_rpn_quality", "loss_cls", "loss_box", "loss_quality"}


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def targets(*rows: tuple[float, ...]) -> Targets:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Targets(table[:, :4].copy(), table[:, 4].astype(np.int64))


OBJECTS = [targets((4, 6, 30, 40, 0), (50, 10, 90, 60, 0)), targets((20, 8, 60, 50, 0))]


def batch_of(goals: list[Targets] = OBJECTS, **changes: Any) -> Batch:
    images = np.random.default_rng(1).standard_normal((2, 3, *SIZE)).astype(np.float32)
    batch = Batch(images, [SIZE] * 2, [SIZE] * 2, [(1.0, 1.0)] * 2, goals)
    return dataclasses.replace(batch, **changes)


def tiny(backend: str, **changes: Any) -> Any:
    """Proposals of about the anchors' size whose scores differ from place to place."""
    model = create_model(NAME, backend=backend, seed=3, **{**TINY, **changes})
    arrays = nn.state_arrays(model)
    arrays["rpn.box_out.bias"] = np.full(4, 0.6, np.float32)
    for name in ("rpn.quality_out.weight", "rpn.box_out.weight", "head.quality_out.weight"):
        arrays[name] = arrays[name] * np.float32(20)
    nn.load_arrays(model, arrays)
    return model


def answers(model: Any, batch: Batch) -> dict[str, Any]:
    with ops.no_grad():
        return model.run(batch)


# --- centerness ---------------------------------------------------------------------------------


def test_centerness_by_hand() -> None:
    """The centre (20, 40) of an anchor in boxes around it, beside it, and with it on the edge."""
    anchor = boxes((10, 20, 30, 60))
    cases = {
        (15, 30, 40, 50): np.sqrt(10 / 10 * 5 / 20),
        (10, 10, 30, 50): np.sqrt(10 / 30 * 10 / 10),
        (0, 0, 40, 80): 1.0,
        (19, 39, 40, 80): np.sqrt(1 / 40 * 1 / 20),
        (25, 30, 40, 50): 0.0,  # to the right of it
        (15, 45, 40, 90): 0.0,  # below
        (25, 45, 40, 90): 0.0,  # both: a product of two negative numbers
        (20, 30, 40, 50): 0.0,  # the centre is on the edge
    }
    for box, expected in cases.items():
        assert centerness(anchor, boxes(box)) == pytest.approx(expected, abs=1e-6), box
    many = centerness(np.repeat(anchor, len(cases), axis=0), boxes(*cases))
    np.testing.assert_allclose(many, list(cases.values()), atol=1e-6)
    assert centerness(boxes(), boxes()).shape == (0,)
    # Sizes of anchors do not matter, only their centres.
    assert centerness(boxes((19, 39, 21, 41)), boxes((15, 30, 40, 50))) == pytest.approx(0.5)


def test_quality_goals_by_hand() -> None:
    anchors = boxes((0, 0, 20, 20), (100, 100, 120, 120), (4, 0, 24, 20), (-8, 0, 12, 20))
    target = targets((2, 0, 22, 20, 5))
    goal = quality_targets(
        anchors,
        [target, targets()],
        [(200, 200)] * 2,
        matcher=Matcher(0.3, 0.1, low_quality="target", low_quality_iou=0.3),
        sampler=RandomSampler(8, 1.0),
        border=0.0,
        share=0.25,
    )
    # Anchors 0 and 2 overlap it, 1 misses it, 3 leaves the image; the second image is background.
    assert goal.index[:6].tolist() == [0, 2, 1, 4, 5, 6]
    side = np.sqrt(8 / 12)  # both centres are 2 pixels away from that of the object
    np.testing.assert_allclose(goal.wanted[:6], [side, side, 0, 0, 0, 0], rtol=1e-6)
    assert goal.weights[:6].tolist() == [0.25] * 6
    assert not goal.weights[6:].any() and len(goal.index) == len(goal.weights) == 64


def test_every_positive_of_the_quality_branch_may_be_asked(backend: str) -> None:
    """Half of the box branch's sample is positive at most, the whole of the quality branch's."""
    model = tiny(backend, rpn_batch=8, rpn_border=None, quality_positive_iou=0.2)
    model.train()
    batch = batch_of([targets((10, 6, 70, 60, 0)), targets((20, 8, 60, 50, 0))])
    goal = model.training_targets(model.run(batch), batch.targets)["rpn_quality"]
    asked = goal.weights > 0
    assert asked.sum() == 16
    assert (goal.wanted[asked] > 0).sum() > 8


# --- first stage --------------------------------------------------------------------------------


def test_objects_at_the_border_teach_no_box(backend: str) -> None:
    """A corner at 0 is enough; they stay in the divisor."""
    goals = [targets((0, 6, 30, 40, 0), (50, 10, 90, 60, 0)), targets((20, 0, 60, 50, 0))]
    batch = batch_of(goals)
    found = {}
    for skip in (True, False):
        model = tiny(backend, skip_border_targets=skip, rpn_border=None)
        model.train()
        found[skip] = model.training_targets(model.run(batch), batch.targets)["rpn"]
    rows = found[False].boxes
    real = rows.weights > 0
    touching = (rows.boxes[:, :2] == 0).any(axis=1)
    assert (real & touching).sum() >= 2 and (real & ~touching).any()
    np.testing.assert_array_equal(
        found[True].boxes.weights, np.where(touching, 0, rows.weights).astype(np.float32)
    )
    for name in ("index", "anchors", "boxes", "deltas"):
        np.testing.assert_array_equal(getattr(found[True].boxes, name), getattr(rows, name))
    np.testing.assert_array_equal(found[True].weights, found[False].weights)
    again = without_border_targets(found[False])
    np.testing.assert_array_equal(again.boxes.weights, found[True].boxes.weights)


def test_border_targets_in_the_loss(backend: str) -> None:
    """Switched on they cost something, and in the middle the switch changes nothing."""
    edge = [targets((0, 0, 40, 40, 0)), targets((0, 8, 60, 50, 0))]
    options = {"rpn_border": None}
    for goals, same in ((edge, False), (OBJECTS, True)):
        values = [
            step(tiny(backend, skip_border_targets=skip, **options), batch_of(goals))[0]
            for skip in (True, False)
        ]
        assert (values[0]["loss_rpn_box"] == values[1]["loss_rpn_box"]) == same
        assert values[0]["loss_rpn_quality"] == values[1]["loss_rpn_quality"]
    assert step(tiny(backend, **options), batch_of(edge))[0]["loss_rpn_box"] == 0


def test_the_weight_of_the_first_stage(backend: str) -> None:
    values = [
        step(tiny(backend, rpn_box_weight=weight), batch_of())[0]["loss_rpn_box"]
        for weight in (10.0, 1.0)
    ]
    assert values[0] == pytest.approx(10 * values[1], rel=1e-5)
    assert values[1] > 0


def test_suppression_among_proposals(backend: str) -> None:
    """Off, as in the official code: every candidate of every level is a proposal."""
    raw = answers(tiny(backend), batch_of())
    per_level = [min(int(np.prod(shape)), 30) for shape in raw["layout"][1]]
    assert [len(one) for one in raw["proposals"]] == [sum(per_level)] * 2
    start = 0
    for count in per_level:  # level after level, each by falling centerness
        own = raw["proposal_scores"][0][start : start + count]
        assert (np.diff(own) <= 0).all()
        start += count
    assert not (np.diff(raw["proposal_scores"][0]) <= 0).all()

    model = tiny(backend, rpn_suppress=True, rpn_post_nms_test=25, rpn_nms_iou=0.5)
    few = answers(model, batch_of())
    for found, scores, whole in zip(few["proposals"], few["proposal_scores"], raw["proposals"]):
        assert len(found) <= 25 < len(whole)
        assert (np.diff(scores) <= 0).all()
        assert {tuple(row) for row in found} <= {tuple(row) for row in whole}
    loose = answers(tiny(backend, rpn_suppress=True, rpn_nms_iou=0.99), batch_of())
    strict = answers(tiny(backend, rpn_suppress=True, rpn_nms_iou=0.1), batch_of())
    assert len(strict["proposals"][0]) < len(loose["proposals"][0])


# --- second stage -------------------------------------------------------------------------------


def test_quality_of_proposals(backend: str) -> None:
    """The IoU of each positive one with its object, where it lies before refinement."""
    model = tiny(backend)
    model.train()
    near = [one.boxes_xyxy + np.float32(shift) for one in OBJECTS for shift in (2, -3, 30)]
    batch = batch_of(proposals=[np.concatenate(near[:3]), np.concatenate(near[3:])])
    goals = model.training_targets(model.run(batch), batch.targets)
    roi, quality = goals["roi"], goals["roi_quality"]
    positive = np.flatnonzero(roi.classes == 0)
    real = quality.weights > 0
    assert len(positive) == real.sum() > 3 + 3
    np.testing.assert_array_equal(quality.index[real], positive)
    for index, wanted in zip(quality.index[real], quality.wanted[real]):
        own, objects = roi.rois[index], batch.targets[roi.images[index]].boxes_xyxy
        shared = intersection(objects, own)
        iou = shared / (box_area(own[None]) + box_area(objects) - shared)
        assert wanted == pytest.approx(iou.max(), rel=1e-5)
    assert quality.wanted[real].min() >= 0.5  # of a positive proposal
    assert quality.wanted[real].max() == pytest.approx(1)  # the object itself is one
    empty = roi_quality(dataclasses.replace(roi, boxes=_without_rows(roi.boxes)))
    assert empty.wanted.shape == (0,)


def _without_rows(goals: Any) -> Any:
    return type(goals)(**{name: value[:0] for name, value in vars(goals).items()})


@pytest.mark.cpu
def test_labels_are_ignored(backend: str) -> None:
    """Whatever is annotated is an object, of data sets of any classes."""
    model = tiny(backend)
    named = [
        Targets(one.boxes_xyxy, np.arange(len(one)) + start)
        for one, start in zip(OBJECTS, (7, 1200))
    ]
    with random.at(1, "step", 3):
        plain, gradients, _ = step(model, batch_of())
    with random.at(1, "step", 3):
        found, others, _ = step(model, batch_of(named, dataset_ids=[2, 0]))
    assert found == plain and set(found) == LOSSES
    assert all(np.array_equal(others[k], v) for k, v in gradients.items())
    assert named[1].labels[0] == 1200  # nothing was written


def test_both_frameworks_agree(both: None) -> None:
    sides: list[Any] = []
    sampled = None
    batch = batch_of()
    for backend in ("torch", "jittor"):
        model = tiny(backend)
        outputs = answers(model, batch)
        raw = {k: ops.to_numpy(outputs[k]) for k in ("rpn_logits", "cls_logits", "quality_logits")}
        losses, gradients, sampled = step(model, batch, sampled)
        sides.append((outputs["proposals"], raw, losses, gradients))
    for a, b in zip(sides[0][0], sides[1][0]):
        np.testing.assert_allclose(a, b, atol=0.02)
    for key, array in sides[0][1].items():
        np.testing.assert_allclose(sides[1][1][key], array, atol=1e-4)
    for key, value in sides[0][2].items():
        assert sides[1][2][key] == pytest.approx(value, rel=1e-5), key
    total = np.sqrt(sum((g**2).sum() for g in sides[0][3].values()))
    for key, a in sides[0][3].items():
        assert np.linalg.norm(a - sides[1][3][key]) <= 1e-2 * np.linalg.norm(a) + 1e-6 * total, key


def test_odd_ground_truth_gives_finite_losses(backend: str) -> None:
    model = tiny(backend)
    for goals in (
        [targets(), targets()],
        [targets((5, 5, 5, 9, 0)), targets((200, 200, 300, 300, 1))],
        [targets((0, 0, 96, 64, 2)), targets((1, 1, 2, 2, 0))],
    ):
        losses, gradients, _ = step(model, batch_of(goals))
        assert all(np.isfinite(value) for value in losses.values())
        assert all(np.isfinite(array).all() for array in gradients.values())
    losses, gradients, _ = step(model, batch_of([targets(), targets()]))
    assert losses["loss_box"] == losses["loss_rpn_box"] == losses["loss_quality"] == 0
    assert losses["loss_cls"] > 0 and losses["loss_rpn_quality"] > 0  # background has quality 0
    assert not gradients["head.box_out.weight"].any()
    # The class branch of the published files is read by nobody.
    assert not gradients["rpn.cls_out.weight"].any()


# --- scores -------------------------------------------------------------------------------------


def test_scores_weigh_class_against_framing(backend: str) -> None:
    for alpha in (0.0, 0.3, 1.0):
        model = tiny(backend, alpha=alpha)
        outputs = answers(model, batch_of())
        logits = ops.to_numpy(outputs["cls_logits"]).astype(np.float64)
        known = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
        iou = 1 / (1 + np.exp(-ops.to_numpy(outputs["quality_logits"])[:, 0].astype(np.float64)))
        framed = iou * np.concatenate(outputs["proposal_scores"])
        scores = model.scores(outputs)
        np.testing.assert_allclose(scores[:, 0], known**alpha * framed ** (1 - alpha), rtol=1e-5)
        assert not scores[:, 1].any() and scores.shape == (len(known), 2)


def test_proposals_without_scores_count_as_certain(backend: str) -> None:
    model = tiny(backend)
    given = [boxes((4, 6, 30, 40), (1, 1, 60, 60))] * 2
    bare = model.scores(answers(model, batch_of(proposals=given)))
    sure = [np.hstack([one, np.ones((2, 1), np.float32)]) for one in given]
    np.testing.assert_array_equal(model.scores(answers(model, batch_of(proposals=sure))), bare)


def test_detections_are_nameless(backend: str) -> None:
    model = tiny(backend, max_detections=40)
    batch = batch_of()
    for found in model.predict(answers(model, batch), batch):
        assert len(found) == 40 and not found.labels.any() and found.class_names == ("object",)
        assert (np.diff(found.scores) <= 0).all() and found.boxes_xyxy.min() >= 0
        assert (found.boxes_xyxy <= [96, 64, 96, 64]).all()


# --- copies and arguments -----------------------------------------------------------------------


def test_what_is_frozen(backend: str) -> None:
    model = tiny(backend)
    frozen = set(nn.parameters(model)) - set(nn.trainable(model))
    parts = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
    assert frozen == {name for name in nn.parameters(model) if name.startswith(parts)}
    _, gradients, _ = step(model, batch_of())
    assert not set(gradients) & frozen
    model.train()
    norms = [m for _, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


def test_config_and_weights_rebuild_the_model(backend: str) -> None:
    model = tiny(backend, alpha=0.6, skip_border_targets=False, rpn_suppress=True)
    config = model.config
    again = create_model(config["name"], backend=backend, seed=None, **config["arguments"])
    nn.load_arrays(again, nn.state_arrays(model))
    assert again.config == config and again.settings == model.settings
    batch = batch_of()
    scores = model.scores(answers(model, batch))
    for one in (again, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_allclose(one.scores(answers(one, batch)), scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("alpha", {"alpha": 1.5}),
        ("rpn_box_weight", {"rpn_box_weight": -1.0}),
        ("quality_positive_iou", {"quality_positive_iou": 0.05}),
        ("num_classes", {"num_classes": 2}),
        ("class_names", {"class_names": ("cat",)}),
        ("rpn_loss", {"rpn_loss": "l1"}),
    ],
)
def test_bad_arguments_are_named(key: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=key):
        create_model(NAME, backend=available()[0], seed=None, **{**TINY, **arguments})
