"""Whole models on the GPU against themselves on the CPU: the certificate, and training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.models.test_detr import TINY
from tests.parity import test_certificate, test_two_stage, test_unidetector
from unidet.backends import nn, ops, optim, random
from unidet.certificate.certify import build, certify, fixed_batch

DETR = {"name": "detr_r18", "arguments": {**TINY, "score_threshold": 0.0}}
CONFIGS: dict[str, dict[str, Any]] = {
    "retinanet": test_certificate.CONFIG,
    "faster_rcnn": test_two_stage.FASTER,
    "fast_rcnn": test_two_stage.FAST,
    "detr": DETR,
    **test_unidetector.CONFIGS,
}


def weights(kind: str) -> dict[str, np.ndarray]:
    """Seeded weights whose scores are spread out."""
    arrays = nn.state_arrays(build(CONFIGS[kind], None, "torch"))
    for name in arrays:
        if name.endswith(("cls_out.weight", "quality_out.weight")):
            arrays[name] = arrays[name] * np.float32(20)
    return arrays


@pytest.mark.parametrize("kind", CONFIGS)
def test_gpu_and_cpu_agree(kind: str) -> None:
    arrays = weights(kind)
    batch = fixed_batch(build(CONFIGS[kind], arrays, "torch"), size=(64, 96))
    certificate = certify(CONFIGS[kind], arrays, batch=batch, backends=("torch", "torch:cuda"))
    assert certificate.failures() == []
    assert certificate.passed and certificate.notes == []
    assert certificate.candidate == "torch:cuda"
    assert max(layer.max_abs for layer in certificate.layers) > 0, "both sides are one device"
    assert certificate.losses and certificate.gradients


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", ["retinanet", "faster_rcnn"])
def test_twenty_steps_agree(kind: str, optimizer: str) -> None:
    arrays, sides = weights(kind), []
    # Samples are those of the CPU: two proposals that change places would change all that follow.
    samples: list[Any] = []
    for side in ("torch", "torch:cuda"):
        model = build(CONFIGS[kind], arrays, side)
        batch = fixed_batch(model, size=(64, 96))
        like = next(iter(nn.parameters(model).values()))
        rate = {"sgd": {"lr": 1e-5, "momentum": 0.9}, "adamw": {"lr": 1e-5}}[optimizer]
        updates = optim.create(optimizer, model, **rate)
        model.train()
        curve = []
        for step in range(20):
            with random.at(0, "step", step):
                outputs = model.run(batch, like=like)
                more = []
                if kind == "faster_rcnn":
                    if side == "torch":
                        samples.append(model.training_targets(outputs, batch.targets))
                    more = [samples[step]]
                losses = model.losses(outputs, batch.targets, *more)
            first, *others = losses.values()
            for value in others:
                first = first + value
            updates.zero_grad()
            updates.backward(first)
            updates.step()
            curve.append(float(ops.item(first)))
        sides.append(curve)
    cpu, gpu = np.array(sides)
    assert cpu[-1] < cpu[0]
    np.testing.assert_allclose(gpu, cpu, rtol=1e-3)


def test_convolutions_are_exact_on_the_gpu() -> None:
    """With TF32, PyTorch's default, this departs by 1e-3."""
    config = {"name": "retinanet_r18_fpn", "arguments": {"num_classes": 3}}
    x = np.random.default_rng(0).normal(size=(1, 3, 256, 320)).astype(np.float32)
    cpu, gpu = (
        ops.to_numpy(model(ops.asarray(x, like=next(model.parameters())))["cls_logits"])
        for model in (build(config, None, side) for side in ("torch", "torch:cuda"))
    )
    assert np.abs(cpu - gpu).max() <= 1e-4
