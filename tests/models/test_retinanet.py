"""The whole model: the same on both backends, sound with odd ground truth, and as configured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.backends import backend_of, nn, ops
from unidet.models import create_model
from unidet.structures import Batch, Targets

SMALL = {
    "num_classes": 3,
    "fpn_channels": 32,
    "head_depth": 1,
    "head_groups": 4,
    "anchor_sizes": [8, 16, 32, 64, 128],
}
SIZE = (64, 96)


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, *SIZE)).astype(np.float32)


def targets(*rows: tuple[float, ...], crowd: bool = False) -> Targets:
    table = np.array(rows, np.float32).reshape(-1, 5)
    flags = np.full(len(table), crowd)
    return Targets(table[:, :4].copy(), table[:, 4].astype(np.int64), crowd=flags)


OBJECTS = [targets((4, 6, 30, 40, 2), (50, 10, 90, 60, 0), (1, 1, 6, 7, 1)), targets()]


def step(model: Any, goals: list[Targets]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Losses and gradients in training mode."""
    weights = nn.trainable(model)
    losses: dict[str, Any] = {}

    def total(*_: Any) -> Any:
        outputs = model(ops.asarray(images(len(goals)), backend=backend_of(model)))
        losses.update(model.losses(outputs, goals))
        return losses["loss_cls"] + losses["loss_box"]

    model.train()
    _, gradients = ops.grad(total, list(weights.values()))
    model.eval()
    values = {name: float(ops.item(value)) for name, value in losses.items()}
    return values, {name: ops.to_numpy(g) for name, g in zip(weights, gradients)}


VARIANTS = {
    "default": ("retinanet_r18_fpn", {}),
    "yhenon": ("retinanet_r18_fpn_yhenon", {}),
    "torchvision_v1": ("retinanet_r18_fpn_torchvision_v1", {"background_slot": None}),
    "mmdet": ("retinanet_r18_fpn_mmdet", {"box_loss": "diou"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_backends_agree(both: None, variant: str) -> None:
    name, extra = VARIANTS[variant]
    sides = []
    for backend in ("torch", "jittor"):
        # Scores well apart from the prior make the comparison a hard one.
        model = create_model(name, backend=backend, seed=3, prior=0.3, **SMALL, **extra)
        with ops.no_grad():
            outputs = model(ops.asarray(images(), backend=backend))
        raw = {key: ops.to_numpy(outputs[key]) for key in ("cls_logits", "box_deltas")}
        assert outputs["layout"][0] == SIZE
        sides.append((raw, *step(model, OBJECTS)))
    (raw_a, losses_a, gradients_a), (raw_b, losses_b, gradients_b) = sides
    for key, array in raw_a.items():
        np.testing.assert_allclose(raw_b[key], array, 1e-4, 1e-4)
    for key, value in losses_a.items():
        assert losses_b[key] == pytest.approx(value, rel=1e-5), key
    assert list(gradients_a) == list(gradients_b)
    for key, a in gradients_a.items():
        b = gradients_b[key]
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        assert norms == 0 or (a * b).sum() / norms >= 0.9999, key
        assert np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(a) + 1e-8, key


@pytest.mark.parametrize("box_loss", ["l1", "giou", "ciou"])
def test_odd_ground_truth_gives_finite_losses(backend: str, box_loss: str) -> None:
    model = create_model("retinanet_r18_fpn", backend=backend, box_loss=box_loss, **SMALL)
    for goals in (
        [targets(), targets()],
        [targets((5, 5, 5, 9, 0)), targets((200, 200, 300, 300, 1))],
        [targets((4, 6, 30, 40, 2), crowd=True), targets((0, 0, 96, 64, 1))],
    ):
        losses, gradients = step(model, goals)
        assert all(np.isfinite(value) for value in losses.values())
        assert all(np.isfinite(array).all() for array in gradients.values())
    losses, gradients = step(model, [targets(), targets()])
    assert losses["loss_box"] == 0 and losses["loss_cls"] > 0
    assert not gradients["head.box_out.weight"].any()


def test_losses_fall_when_the_answer_is_right(backend: str) -> None:
    model = create_model("retinanet_r18_fpn", backend=backend, box_loss="l1", **SMALL)
    with ops.no_grad():
        layout = model(ops.asarray(images(1), backend=backend))["layout"]
    goal = model.assign(layout, OBJECTS[:1])
    count = goal.classes.shape[1]
    right = np.full((1, count, 3), -8, np.float32)
    positive = np.flatnonzero(goal.classes[0] >= 0)
    right[0, positive, goal.classes[0, positive]] = 8
    deltas = np.zeros((1, count, 4), np.float32)
    deltas[0, goal.positives[: len(positive)]] = goal.deltas[: len(positive)]
    outputs = {
        "cls_logits": ops.asarray(right, backend=backend),
        "box_deltas": ops.asarray(deltas, backend=backend),
        "layout": layout,
    }
    losses = model.losses(outputs, OBJECTS[:1])
    assert float(ops.item(losses["loss_box"])) == pytest.approx(0, abs=1e-6)
    assert float(ops.item(losses["loss_cls"])) < 1e-4
    batch = Batch(images(1), [SIZE], [(32, 48)], [(2.0, 2.0)])
    found = model.predict(outputs, batch)[0]
    assert sorted(found.labels.tolist()) == [0, 1, 2]
    for box, label in zip(OBJECTS[0].boxes_xyxy, OBJECTS[0].labels):
        assert np.allclose(found.boxes_xyxy[found.labels == label], box / 2, atol=1e-3)


def test_wrong_number_of_targets(backend: str) -> None:
    model = create_model("retinanet_r18_fpn", backend=backend, seed=None, **SMALL)
    outputs = {
        "cls_logits": ops.zeros((2, 4, 3), backend=backend),
        "box_deltas": None,
        "layout": (),
    }
    with pytest.raises(ValueError, match="targets"):
        model.losses(outputs, OBJECTS[:1])


def test_statistics_and_frozen_parts_in_training(backend: str) -> None:
    live = create_model("retinanet_r18_fpn", backend=backend, **SMALL)
    held = create_model("retinanet_r18_fpn_mmdet", backend=backend, **SMALL)
    for model, moves in ((live, True), (held, False)):
        before = nn.state_arrays(model)["backbone.layer3.0.bn1.running_mean"]
        _, gradients = step(model, OBJECTS)
        after = nn.state_arrays(model)["backbone.layer3.0.bn1.running_mean"]
        assert np.array_equal(before, after) != moves
        assert gradients["backbone.layer3.0.bn1.weight"].any()
    # mmdetection freezes the stem and layer1, and nothing else.
    frozen = set(nn.parameters(held)) - set(nn.trainable(held))
    parts = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
    assert frozen == {name for name in nn.parameters(held) if name.startswith(parts)}


def test_a_frozen_stage_keeps_its_statistics(backend: str) -> None:
    model = create_model("retinanet_r18_fpn", backend=backend, frozen_stages=1, **SMALL)
    step(model, OBJECTS)
    state = nn.state_arrays(model)
    assert not state["backbone.bn1.running_mean"].any()
    assert not state["backbone.layer1.1.bn2.running_mean"].any()
    assert state["backbone.layer2.0.bn1.running_mean"].any()


def test_frozen_norm_has_no_parameters(backend: str) -> None:
    model = create_model("retinanet_r18_fpn_torchvision_v1", backend=backend, seed=None, **SMALL)
    assert not any(".bn" in name for name in nn.parameters(model))
    assert "backbone.bn1.running_var" in nn.state_arrays(model)
