"""The whole model: the same on both backends, sound with odd input, and as configured."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.models.steps import step
from unidet.backends import backend_of, nn, ops, random
from unidet.models import MODELS, create_model
from unidet.models.faster_rcnn import fast_rcnn as module
from unidet.models.faster_rcnn.presets import PRESETS_BY_NAME
from unidet.structures import Batch, Targets

SMALL = {
    "num_classes": 3,
    "fpn_channels": 16,
    "head_channels": 32,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "rpn_batch": 32,
    "roi_batch": 16,
    "rpn_post_nms_train": 40,
    "rpn_post_nms_test": 20,
}
SIZE = (64, 96)


def batch_of(goals: list[Targets]) -> Batch:
    rng = np.random.default_rng(1)
    images = rng.standard_normal((len(goals), 3, *SIZE)).astype(np.float32)
    sizes = [SIZE, (60, 90)][: len(goals)]
    return Batch(images, sizes, sizes, [(1.0, 1.0)] * len(goals), goals)


def targets(*rows: tuple[float, ...], crowd: bool = False) -> Targets:
    table = np.array(rows, np.float32).reshape(-1, 5)
    flags = np.full(len(table), crowd)
    return Targets(table[:, :4].copy(), table[:, 4].astype(np.int64), crowd=flags)


OBJECTS = [targets((4, 6, 30, 40, 2), (50, 10, 90, 60, 0), (1, 1, 6, 7, 1)), targets()]


def spread(model: Any) -> None:
    """Scores well apart from each other, so that an order is an order."""
    arrays = nn.state_arrays(model)
    changed = {}
    for name in ("rpn.cls_out.weight", "rpn.box_out.weight", "head.cls_out.weight"):
        if name in arrays:
            changed[name] = arrays[name] * np.float32(20)
    nn.load_arrays(model, {**arrays, **changed})


VARIANTS = {
    "default": ("faster_rcnn_r18_fpn", {"norm_eval": True}),
    "torchvision_v2": (
        "faster_rcnn_r18_fpn_torchvision_v2",
        {"background_slot": None, "norm_eval": True, "box_loss": "giou"},
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_backends_agree(both: None, variant: str) -> None:
    name, changes = VARIANTS[variant]
    sides, batch = [], batch_of(OBJECTS)
    sampled = None
    for backend in ("torch", "jittor"):
        model = create_model(name, backend=backend, seed=3, **{**SMALL, **changes})
        spread(model)
        with ops.no_grad():
            outputs = model.run(batch)
        raw = {key: ops.to_numpy(outputs[key]) for key in ("rpn_logits", "cls_logits")}
        losses, gradients, sampled = step(model, batch, sampled)
        sides.append((outputs["proposals"], raw, losses, gradients))
    for a, b in zip(sides[0][0], sides[1][0]):
        np.testing.assert_allclose(a, b, atol=0.02)
    for key, array in sides[0][1].items():
        np.testing.assert_allclose(sides[1][1][key], array, 1e-3, 1e-3)
    for key, value in sides[0][2].items():
        assert sides[1][2][key] == pytest.approx(value, rel=1e-5), key
    total = np.sqrt(sum((g**2).sum() for g in sides[0][3].values()))
    for key, a in sides[0][3].items():
        b = sides[1][3][key]
        # A cosine of 0.9999 and no more: rounding, which differs with the number of threads, turns
        # single ReLUs of so small a network.
        assert np.linalg.norm(a - b) <= 1e-2 * np.linalg.norm(a) + 1e-6 * total, key


def test_odd_ground_truth_gives_finite_losses(backend: str) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **SMALL)
    for goals in (
        [targets(), targets()],
        [targets((5, 5, 5, 9, 0)), targets((200, 200, 300, 300, 1))],
        [targets((4, 6, 30, 40, 2), crowd=True), targets((0, 0, 90, 60, 1))],
    ):
        losses, gradients, _ = step(model, batch_of(goals))
        assert set(losses) == {"loss_rpn_cls", "loss_rpn_box", "loss_cls", "loss_box"}
        assert all(np.isfinite(value) for value in losses.values())
        assert all(np.isfinite(array).all() for array in gradients.values())
    losses, gradients, _ = step(model, batch_of([targets(), targets()]))
    assert losses["loss_box"] == losses["loss_rpn_box"] == 0 and losses["loss_cls"] > 0
    assert not gradients["head.box_out.weight"].any()
    with pytest.raises(ValueError, match="labels from 0 to 2"):
        step(model, batch_of([targets((4, 6, 30, 40, 3))]))
    with pytest.raises(ValueError, match="targets"):
        model.losses(model.run(batch_of(OBJECTS)), OBJECTS[:1])


def test_samples_follow_the_step(backend: str) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **SMALL)
    batch = batch_of(OBJECTS)
    model.train()
    outputs = model.run(batch)

    def drawn(number: int) -> np.ndarray:
        with random.at(7, "step", number):
            return model.assign(outputs, batch.targets)["rpn"].index

    assert np.array_equal(drawn(1), drawn(1)) and not np.array_equal(drawn(1), drawn(2))


def test_given_proposals(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {k: v for k, v in SMALL.items() if not k.startswith(("rpn_", "anchor_"))}
    model = create_model("fast_rcnn_r18_fpn", backend=backend, score_threshold=0.0, **arguments)
    batch = batch_of(OBJECTS)
    given = [np.array([[4, 6, 30, 40], [-50, -20, -10, 500], [8, 8, 8, 8]]), np.zeros((0, 4))]
    with pytest.raises(ValueError, match="proposals"):
        model.run(batch)
    batch.proposals = given
    with ops.no_grad():
        outputs = model.run(batch)
        monkeypatch.setattr(module, "CHUNK", 1)
        pieces = model.run(batch)
    assert outputs["roi_counts"] == [3, 0]
    assert ops.shape(outputs["cls_logits"]) == (3, 4)
    assert ops.shape(outputs["box_deltas"]) == (3, 12)
    logits = ops.to_numpy(outputs["cls_logits"])
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(ops.to_numpy(pieces["cls_logits"]), logits, atol=1e-5)
    found = model.predict(outputs, batch)
    assert len(found[0]) and not len(found[1])
    losses, _, _ = step(model, batch)
    assert set(losses) == {"loss_cls", "loss_box"} and np.isfinite(list(losses.values())).all()
    batch.proposals = [np.zeros((0, 4)), np.zeros((0, 4))]
    with ops.no_grad():
        nothing = model.run(batch)
        assert [len(one) for one in model.predict(nothing, batch)] == [0, 0]
    for wrong in ([given[0]], [np.zeros((2, 5)), given[1]], [given[0] * np.nan, given[1]]):
        with pytest.raises(ValueError, match="proposals"):
            model.run(batch, proposals=wrong)


def test_numbers_that_diverged_detect_nothing(backend: str) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **SMALL)
    batch = batch_of(OBJECTS)
    arrays = nn.state_arrays(model)
    broken = {"rpn.cls_out.bias": arrays["rpn.cls_out.bias"] * 0 + np.float32(np.nan)}
    nn.load_arrays(model, {**arrays, **broken})
    with ops.no_grad():
        outputs = model.run(batch)
        assert [len(boxes) for boxes in outputs["proposals"]] == [0, 0]
        assert [len(one) for one in model.predict(outputs, batch)] == [0, 0]


def test_proposals_stay_in_their_image(backend: str) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **SMALL)
    with ops.no_grad():
        outputs = model.run(batch_of(OBJECTS))
    assert outputs["proposals"][1].max() <= 90 and outputs["proposals"][1][:, 3].max() <= 60
    assert len(outputs["proposals"][0]) == 20
    with pytest.raises(ValueError, match="image_sizes"):
        model(ops.asarray(batch_of(OBJECTS).images, backend=backend_of(model)), [SIZE])


def test_what_is_frozen(backend: str) -> None:
    model = create_model("faster_rcnn_r18_fpn_mmdet", backend=backend, seed=None, **SMALL)
    frozen = set(nn.parameters(model)) - set(nn.trainable(model))
    parts = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
    assert frozen == {name for name in nn.parameters(model) if name.startswith(parts)}
    model.train()
    norms = [m for _, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    live = create_model("faster_rcnn_r18_fpn", backend=backend, seed=None, **SMALL)
    assert all(m.training for _, m in live.train().named_modules())


def test_shipped_names() -> None:
    for family in ("faster_rcnn", "fast_rcnn"):
        names = [name for name in MODELS if name.startswith(f"{family}_")]
        assert len(names) == 5 * len(PRESETS_BY_NAME["fpn"]) + 2 * len(PRESETS_BY_NAME["c4"])
        assert {f"{family}_r18_fpn", f"{family}_r101_c4_detectron2"} <= set(names)


COUNTS = {
    "faster_rcnn_r50_fpn_torchvision_v1": 41_755_286,
    "faster_rcnn_r50_fpn_torchvision_v2": 43_712_278,
    "faster_rcnn_r50_fpn_mmdet": 41_753_056,
    "faster_rcnn_r50_c4_detectron2": 33_791_644,
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_parameter_counts(backend: str, name: str) -> None:
    model = create_model(name, backend=backend, seed=None)
    total = sum(int(np.prod(ops.shape(p))) for p in nn.parameters(model).values())
    assert total == COUNTS[name]


@pytest.mark.parametrize("family", ["faster_rcnn", "fast_rcnn"])
def test_config_rebuilds_the_model(backend: str, family: str) -> None:
    own = {
        k: v for k, v in SMALL.items() if family == "faster_rcnn" or k[:4] not in ("rpn_", "anch")
    }
    own |= {"class_names": ("a", "b", "c"), "preprocess": {"min_size": 128}}
    model = create_model(f"{family}_r18_fpn_mmdet", backend=backend, **own)
    text = json.dumps(model.config)
    config = json.loads(text)
    again = create_model(config["name"], backend=backend, **config["arguments"])
    assert json.dumps(again.config) == text
    assert (again.preprocess.min_size, again.class_names) == (128, ("a", "b", "c"))
    first, second = nn.state_arrays(model), nn.state_arrays(again)
    assert list(first) == list(second)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert first["head.cls_out.weight"].std() == pytest.approx(0.01, rel=0.2)
    assert first["head.box_out.weight"].std() == pytest.approx(0.001, rel=0.2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 0},
        {"class_names": ["one"]},
        {"head": "res5"},
        {"roi_level_rule": "coco"},
        {"background": "middle"},
        {"rpn_normalizer": "none"},
        {"rpn_convs": 0},
        {"roi_positive_fraction": 2.0},
        {"frozen_stages": 7},
        {"background_slot": 0},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_bad_arguments_are_named(arguments: dict) -> None:
    from unidet.backends import available

    key = next(iter(arguments))
    name = {"background_slot": "background"}.get(key, key)
    with pytest.raises(ValueError, match=name):
        create_model("faster_rcnn_r18_fpn", backend=available()[0], seed=None, **arguments)
