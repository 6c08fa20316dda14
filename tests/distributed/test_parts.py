"""A batch that is computed in parts gives what the whole gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.backends import nn, optim, random
from unidet.backends.parallel import batch_split
from unidet.data.order import take_part
from unidet.engine.stepper import Stepper
from unidet.models import create_model
from unidet.structures import Batch, Part, Targets

#: Sizes of four images; the second batch is padded by the first alone.
SIZES = [(64, 96), (56, 80), (64, 64), (48, 96)]
TWO_STAGE = {
    "num_classes": 3,
    "fpn_channels": 16,
    "head_channels": 32,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "norm_eval": True,
    "rpn_batch": 32,
    # All proposals learn: two that change places would change the sample.
    **{"rpn_nms_iou": 1.0, "rpn_pre_nms_train": 2000, "rpn_post_nms_train": 2000},
    "roi_batch": 2100,
}
RETINANET = {
    "num_classes": 3,
    "fpn_channels": 16,
    "head_channels": 16,
    "head_groups": 4,
    "norm_eval": True,
    "preprocess": {"resize": "none"},
}
DETR = {
    **{"num_classes": 3, "num_queries": 8, "width": 32, "heads": 2, "feedforward": 32},
    **{"encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0},
    **{"attention_dropout": 0.0, "activation_dropout": 0.0},
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "retinanet": ("retinanet_r18_fpn", RETINANET),
    "retinanet, by image": ("retinanet_r18_fpn", {**RETINANET, "normalizer": "image"}),
    "retinanet, moving": ("retinanet_r18_fpn", {**RETINANET, "normalizer": "moving"}),
    "faster_rcnn": ("faster_rcnn_r18_fpn", TWO_STAGE),
    "faster_rcnn, each": ("faster_rcnn_r18_fpn", {**TWO_STAGE, "rpn_normalizer": "sampled_each"}),
    "cln": ("unidetector_cln_r18_fpn", {k: v for k, v in TWO_STAGE.items() if k != "num_classes"}),
    "detr": ("detr_r18", DETR),
}


def whole_batch(one_class: bool = False) -> Batch:
    """Four images; one is empty, and one has more objects than the others together."""
    rng = np.random.default_rng(5)
    images = np.zeros((4, 3, 64, 96), np.float32)
    targets = []
    for slot, (height, width), count in zip(images, SIZES, (1, 0, 6, 2)):
        slot[:, :height, :width] = rng.standard_normal((3, height, width))
        corners = rng.uniform(0, 30, (count, 2))
        boxes = np.hstack([corners, corners + rng.uniform(12, 34, (count, 2))])
        labels = rng.integers(0, 1 if one_class else 3, count)
        targets.append(Targets(boxes.astype(np.float32), labels.astype(np.int64)))
    return Batch(images, SIZES, SIZES, [(1.0, 1.0)] * 4, targets, list(range(4)))


def cut(batch: Batch, start: int, stop: int) -> Batch:
    """Some of its images, padded no more than they need."""
    sizes = batch.image_sizes[start:stop]
    height, width = (max(sides) for sides in zip(*sizes))
    height, width = -(-height // 32) * 32, -(-width // 32) * 32
    return Batch(
        batch.images[start:stop, :, :height, :width],
        sizes,
        sizes,
        batch.scales[start:stop],
        batch.targets[start:stop],
    )


def trained(
    backend: str,
    model: str,
    arguments: dict[str, Any],
    batches: list[Batch],
    steps: int,
    **rule: Any,
) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    built = create_model(model, backend=backend, seed=1, **arguments)
    built.train()
    stepper = Stepper(built, optim.create(model=built, **rule))
    values = []
    for step in range(steps):
        with random.at(3, "step", step):
            values.append(stepper.step(batches, 1.0, lambda _: None))
    return nn.state_arrays(built), values


def assert_alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray], bound: float) -> None:
    """Differences against the largest weight of each tensor, or against 1 where all are small."""
    for name, value in one.items():
        scale = max(float(np.abs(value).max()), 1.0)
        worst = float(np.abs(value - other[name]).max()) / scale
        assert worst <= bound, f"{name}: {worst:.2e}"


@pytest.mark.parametrize(
    ("chosen", "rule"),
    [
        ("faster_rcnn", "sgd"),
        pytest.param("retinanet", "adamw", marks=pytest.mark.slow_on("jittor")),
        pytest.param("retinanet", "sgd", marks=pytest.mark.slow),
        pytest.param("faster_rcnn", "adamw", marks=pytest.mark.slow),
    ],
)
def test_four_micro_batches_are_one_batch(backend: str, chosen: str, rule: str) -> None:
    name, arguments = MODELS[chosen]
    options = {"sgd": {"lr": 2e-4, "momentum": 0.9}, "adamw": {"lr": 5e-6, "eps": 1e-3}}[rule]
    whole = whole_batch()
    options |= {"name": rule, "weight_decay": 1e-4}
    expected, losses = trained(backend, name, arguments, [whole], 10, **options)
    parts = [cut(whole, i, i + 1) for i in range(4)]
    found, own = trained(backend, name, arguments, parts, 10, **options)
    assert_alike(expected, found, 1e-6)
    for one, other in zip(losses, own):
        assert one.keys() == other.keys()
        np.testing.assert_allclose([*one.values()], [*other.values()], rtol=1e-5)
    start = nn.state_arrays(create_model(name, backend=backend, seed=1, **arguments))
    assert max(np.abs(found[key] - start[key]).max() for key in start) > 1e-5  # it moved


@pytest.mark.parametrize(
    "chosen",
    [
        # What the others count is the host's work, and the same for both.
        name
        if name in ("retinanet", "faster_rcnn")
        else pytest.param(name, marks=pytest.mark.slow_on("jittor"))
        for name in MODELS
    ],
)
@pytest.mark.parametrize("split", [(1, 4), (3, 4)])
def test_uneven_parts_add_up(backend: str, chosen: str, split: tuple[int, int]) -> None:
    name, arguments = MODELS[chosen]
    whole = whole_batch(one_class=chosen == "cln")
    # At 1e-2 the second step has weights far enough off for a ReLU to turn, and differs by 2e-6.
    options = {"name": "sgd", "lr": 2e-3, "momentum": 0.9}
    expected, losses = trained(backend, name, arguments, [whole], 2, **options)
    parts = [cut(whole, 0, split[0]), cut(whole, *split)]
    found, own = trained(backend, name, arguments, parts, 2, **options)
    assert_alike(expected, found, 1e-6)
    start = nn.state_arrays(create_model(name, backend=backend, seed=1, **arguments))
    assert max(np.abs(found[key] - start[key]).max() for key in start) > 1e-4  # it moved
    np.testing.assert_allclose(
        [one["loss"] for one in losses], [one["loss"] for one in own], rtol=1e-5
    )


def test_counts_are_those_of_the_losses(backend: str) -> None:
    """What is counted without the network is what the losses ask for."""
    for chosen in ("retinanet", "retinanet, by image", "detr"):
        name, arguments = MODELS[chosen]
        model = create_model(name, backend=backend, seed=0, **arguments)
        model.train()
        batch = whole_batch()
        ahead: dict[str, float] = {}
        with batch_split.counting(ahead, 0):
            model.count(batch)
        asked: dict[str, float] = {}
        with batch_split.counting(asked, 0):
            model.losses(Stepper(model, None).outputs(batch), batch.targets)
        assert ahead == pytest.approx(asked) and ahead


def test_counting_leaves_running_statistics_alone(backend: str) -> None:
    arguments = {**TWO_STAGE, "norm": "batch", "norm_eval": False}
    model = create_model("faster_rcnn_r18_fpn", backend=backend, seed=0, **arguments)
    model.train()
    before = nn.state_arrays(model)
    with batch_split.counting({}, 0):
        model.count(whole_batch())
    after = nn.state_arrays(model)
    for name in before:
        if "running" in name:
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_a_batch_is_cut_into_parts_of_nearly_one_size() -> None:
    batch = np.arange(7)
    parts = [take_part(batch, (i, 3)) for i in range(3)]
    assert [p.tolist() for p, _ in parts] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [p for _, p in parts] == [Part(0, 7), Part(2, 7), Part(4, 7)]
    numbers, part = take_part(batch[:1], (0, 2))
    assert part.stands_in and numbers.tolist() == [0]
    assert not take_part(batch[:1], (1, 2))[1].stands_in


def test_a_part_that_stands_in_changes_nothing(backend: str) -> None:
    """One image for two parts: the other computes, and counts nothing."""
    name, arguments = MODELS["faster_rcnn"]
    alone = cut(whole_batch(), 2, 3)
    options = {"name": "sgd", "lr": 1e-2}
    guest = cut(whole_batch(), 3, 4)
    guest.part, alone.part = Part(0, 0, stands_in=True), Part(0, 1)
    guest, alone = guest.padded((64, 96)), alone.padded((64, 96))
    expected, _ = trained(backend, name, arguments, [alone], 1, **options)
    # Two parts halve each; the one that stands in must not.
    found, _ = trained(backend, name, arguments, [guest, alone], 1, **options)
    assert_alike(expected, found, 1e-6)
