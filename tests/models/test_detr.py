"""DETR: its losses against a judge, the whole, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from unidet.backends import nn, ops, random
from unidet.models import create_model
from unidet.models.detr.matcher import HungarianMatcher
from unidet.structures import Batch, Targets

TINY: dict[str, Any] = {
    "num_classes": 3,
    "num_queries": 6,
    "width": 32,
    "heads": 4,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "feedforward": 48,
}
QUIET = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)


def tiny(backend: str, name: str = "detr_r18", **arguments: Any) -> Any:
    return create_model(name, backend=backend, **{**TINY, **QUIET, **arguments})


def targets(*rows: tuple[float, float, float, float, int]) -> Targets:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Targets(table[:, :4].copy(), table[:, 4].astype(np.int64))


def batch(*goals: Targets, sizes: tuple[tuple[int, int], ...] = ((64, 96), (48, 64))) -> Batch:
    sizes = sizes[: len(goals)]
    sides = tuple(max(side) for side in zip(*sizes))
    images = np.zeros((len(goals), 3, *sides), np.float32)
    for slot, (h, w) in zip(images, sizes):
        slot[:, :h, :w] = random.stream(h, "image").standard_normal((3, h, w))
    return Batch(images, sizes, sizes, [(1.0, 1.0)] * len(goals), list(goals), [1, 2], [0, 0])


GOALS = (targets((8, 8, 40, 56, 0), (30, 4, 90, 60, 2)), targets((4, 6, 30, 40, 1)))


def test_what_lies_in_the_padding_changes_nothing(backend: str) -> None:
    model = tiny(backend)
    # The network sees what lies within its reach of the border, so only far padding counts.
    wide = batch(GOALS[1], sizes=((48, 64),))
    wide.images = np.pad(wide.images, ((0, 0), (0, 0), (0, 200), (0, 200)))
    loud = batch(GOALS[1], sizes=((48, 64),))
    loud.images = wide.images.copy()
    loud.images[:, :, 240:, 250:] = 9
    found = [ops.to_numpy(model.run(one)["cls_logits"]) for one in (wide, loud)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


# --- losses -------------------------------------------------------------------------------------


def judged_losses(model: Any, outputs: Any, goals: tuple[Targets, ...], sizes: Any) -> Any:
    """Losses of the last layer, object by object."""
    logits = ops.to_numpy(outputs["cls_logits"])[-1].astype(np.float64)
    boxes = ops.to_numpy(outputs["boxes_cxcywh"])[-1].astype(np.float64)
    likely = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    total, weight, distance, apart = 0.0, 0.0, 0.0, 0.0
    for i, (goal, (h, w)) in enumerate(zip(goals, sizes)):
        wanted = np.array(
            [
                [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
                for x1, y1, x2, y2 in goal.boxes_xyxy
            ]
        ).reshape(-1, 4)
        query, which = HungarianMatcher()(likely[i], boxes[i], goal.labels, wanted)
        classes = np.full(len(likely[i]), 3)
        classes[query] = goal.labels[which]
        for row, label in zip(likely[i], classes):
            share = 0.1 if label == 3 else 1.0
            total -= share * math.log(row[label])
            weight += share
        for a, b in zip(boxes[i, query], wanted[which]):
            distance += np.abs(a - b).sum()
            low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
            high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
            shared = np.prod(np.maximum(high - low, 0))
            union = a[2] * a[3] + b[2] * b[3] - shared
            hull = np.maximum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2) - np.minimum(
                a[:2] - a[2:] / 2, b[:2] - b[2:] / 2
            )
            apart += 1 - (shared / union - (hull.prod() - union) / hull.prod())
    objects = max(sum(map(len, goals)), 1)
    return {
        "loss_ce": total / weight,
        "loss_bbox": 5 * distance / objects,
        "loss_giou": 2 * apart / objects,
    }


def test_losses_against_a_judge(backend: str) -> None:
    model, data = tiny(backend), batch(*GOALS)
    outputs = model.run(data)
    losses = {k: float(ops.item(v)) for k, v in model.losses(outputs, data.targets).items()}
    assert list(losses) == [
        *("loss_ce", "loss_bbox", "loss_giou"),
        *("loss_ce_0", "loss_bbox_0", "loss_giou_0"),
    ]
    for name, value in judged_losses(model, outputs, GOALS, data.image_sizes).items():
        assert losses[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
@pytest.mark.parametrize("space", ["normalised", "pixels"])
def test_box_losses_by_name(backend: str, kind: str, space: str) -> None:
    data = batch(*GOALS)
    model = tiny(backend, box_loss=kind, match_measure=kind, box_loss_space=space)
    losses = model.losses(model.run(data), data.targets)
    assert f"loss_{kind}" in losses
    assert np.isfinite(float(ops.item(losses[f"loss_{kind}"])))


def test_giou_does_not_mind_the_space_and_diou_does(backend: str) -> None:
    data = batch(*GOALS)
    values = {}
    for kind in ("giou", "diou"):
        for space in ("normalised", "pixels"):
            model = tiny(backend, box_loss=kind, box_loss_space=space)
            losses = model.losses(model.run(data), data.targets)
            values[kind, space] = float(ops.item(losses[f"loss_{kind}"]))
    assert values["giou", "pixels"] == pytest.approx(values["giou", "normalised"], rel=1e-5)
    assert abs(values["diou", "pixels"] - values["diou", "normalised"]) > 1e-4


def test_images_without_objects(backend: str) -> None:
    model, data = tiny(backend), batch(targets(), targets())
    weights = nn.trainable(model)

    def total(*_: Any) -> Any:
        losses = model.losses(model.run(data), data.targets)
        for name in ("loss_bbox", "loss_giou", "loss_bbox_0"):
            assert float(ops.item(losses[name])) == 0
        return sum(losses.values())

    value, gradients = ops.grad(total, list(weights.values()))
    assert float(ops.item(value)) > 0
    assert all(np.isfinite(ops.to_numpy(gradient)).all() for gradient in gradients)


def test_crowds_and_boxes_without_area_are_left_out(backend: str) -> None:
    model, data = tiny(backend), batch(*GOALS)
    outputs = model.run(data)
    more = targets(*[(8, 8, 40, 56, 0), (30, 4, 90, 60, 2), (5, 5, 5, 9, 1), (0, 0, 50, 50, 1)])
    more.crowd[3] = True
    plain, mixed = (
        {k: float(ops.item(v)) for k, v in model.losses(outputs, (first, GOALS[1])).items()}
        for first in (GOALS[0], more)
    )
    assert mixed == plain


def test_measures(backend: str) -> None:
    model, data = tiny(backend), batch(*GOALS)
    outputs = model.run(data)
    shape = ops.shape(outputs["cls_logits"])
    logits = np.zeros(shape, np.float32)
    logits[..., 1] = 5  # all six queries see class 1: 2 and 1 objects are there
    outputs["cls_logits"] = ops.asarray(logits, backend=backend)
    found = model.measures(outputs, data.targets)
    assert found["cardinality_error"] == pytest.approx((4 + 5) / 2)
    assert found["class_error"] == pytest.approx(200 / 3)
    assert model.measures(outputs, (targets(), targets()))["class_error"] == 0


# --- the whole ----------------------------------------------------------------------------------


def test_counts_of_the_published_models() -> None:
    from unidet.backends import available

    backend = available()[0]
    model = create_model("detr_r50", backend=backend, seed=None)
    counts = {name: int(np.prod(ops.shape(v))) for name, v in model.named_parameters()}
    assert sum(counts.values()) == 41_524_768
    body = {name: n for name, n in counts.items() if name.startswith("backbone.")}
    assert (len(body), sum(body.values())) == (53, 23_454_912)
    trained = {name: counts[name] for name in nn.trainable(model)}
    assert not any(name.startswith(("backbone.conv1", "backbone.layer1")) for name in trained)
    nn.freeze(model, "backbone")
    assert sum(counts[name] for name in nn.trainable(model)) == 18_069_856
    whole = create_model("detr_r50", backend=backend, seed=None, frozen_stages=4)
    assert set(nn.trainable(whole)) == set(nn.trainable(model))
    free = create_model("detr_r50_huggingface", backend=backend, seed=None)
    assert sum(counts[name] for name in nn.trainable(free)) == 41_524_768


def test_one_layer_without_auxiliary_losses(backend: str) -> None:
    data = batch(*GOALS)
    many, one = (tiny(backend, auxiliary_losses=a) for a in (True, False))
    left, right = (model.run(data) for model in (many, one))
    assert ops.shape(left["cls_logits"])[0] == 2
    assert ops.shape(right["cls_logits"])[0] == 1
    for key in ("cls_logits", "boxes_cxcywh"):
        np.testing.assert_allclose(
            ops.to_numpy(left[key])[-1], ops.to_numpy(right[key])[-1], atol=1e-6
        )


@pytest.mark.parametrize("depth", [18, 50])
def test_the_last_stage_may_dilate(backend: str, depth: int) -> None:
    image = ops.asarray(batch(GOALS[0]).images, backend=backend)
    names = (f"detr_r{depth}", f"detr_r{depth}_dc5")
    plain, dilated = (tiny(backend, name).backbone(image) for name in names)
    assert ops.shape(plain[-1])[2:] == (2, 3)
    assert ops.shape(dilated[-1])[2:] == (4, 6)
    model = tiny(backend, names[1])
    assert model.config["name"] == names[1]
    found = [
        module.dilation
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and "layer4" in name and module.kernel_size == (3, 3)
    ]
    # Two in the first basic block, one in the first bottleneck; the first block does not dilate.
    assert found == [(1, 1)] * {18: 2, 50: 1}[depth] + [(2, 2)] * 2


def test_detections_are_in_pixels_of_the_original(backend: str) -> None:
    model, data = tiny(backend), batch(*GOALS)
    data.original_sizes = [(128, 192), (48, 64)]
    outputs = model.run(data)
    boxes = np.zeros(ops.shape(outputs["boxes_cxcywh"]), np.float32)
    boxes[:] = [0.5, 0.25, 0.5, 0.25]
    outputs["boxes_cxcywh"] = ops.asarray(boxes, backend=backend)
    first, second = model.predict(outputs, data)
    np.testing.assert_allclose(first.boxes_xyxy, [[48, 16, 144, 48]] * 6)
    np.testing.assert_allclose(second.boxes_xyxy, [[16, 6, 48, 18]] * 6)
    assert (np.diff(first.scores) <= 0).all()
    assert len(tiny(backend, max_detections=2).predict(outputs, data)[0]) == 2


def test_dropout_acts_in_training_alone(backend: str) -> None:
    for name in ("dropout", "attention_dropout", "activation_dropout", "input_dropout"):
        model, data = tiny(backend, **{name: 0.5}), batch(GOALS[0])
        runs = []
        for training in (False, False, True, True):
            model.train(training)
            runs.append(ops.to_numpy(model.run(data)["cls_logits"]))
        np.testing.assert_array_equal(runs[0], runs[1])
        assert np.abs(runs[2] - runs[3]).max() > 1e-4, name


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"box_loss": "gious"}, "box_loss.*giou"),
        ({"heads": 5}, "width.*multiple"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_queries": 0}, "num_queries"),
        ({"cost_class": 0, "cost_bbox": 0, "cost_giou": 0}, "cost_class.*above 0"),
        ({"cost_bbox": -1}, "cost_bbox"),
        ({"eos_coef": 0.0}, "eos_coef"),
        ({"class_names": ("a",)}, "class_names.*3"),
        ({"frozen_stages": 5}, "frozen_stages"),
        ({"box_loss_space": "inches"}, "box_loss_space"),
    ],
)
def test_arguments_that_make_no_sense(backend: str, arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny(backend, **arguments)


def test_wrong_sizes_and_labels(backend: str) -> None:
    model, data = tiny(backend), batch(*GOALS)
    images = ops.asarray(data.images, backend=backend)
    for sizes, said in (
        ([(64, 96)], "one for each of 2"),
        ([(64, 96), (0, 64)], "0 by 64"),
        ([(64, 96), (65, 64)], "65 by 64"),
    ):
        with pytest.raises(ValueError, match=said):
            model(images, image_sizes=sizes)
    outputs = model(images, image_sizes=data.image_sizes)
    with pytest.raises(ValueError, match="labels from 0 to 2"):
        model.losses(outputs, (targets((1, 1, 9, 9, 3)), GOALS[1]))
    with pytest.raises(ValueError, match="one for each of"):
        model.losses(outputs, GOALS[:1])


def test_numbers_that_are_lost_show_in_the_loss(backend: str) -> None:
    model, data = tiny(backend), batch(*GOALS)
    outputs = model.run(data)
    bad = np.full(ops.shape(outputs["cls_logits"]), np.nan, np.float32)
    outputs["cls_logits"] = ops.asarray(bad, backend=backend)
    losses = model.losses(outputs, data.targets)
    assert not math.isfinite(float(ops.item(losses["loss_ce"])))
