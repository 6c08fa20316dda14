"""ResNet classifiers against torchvision's: stages, logits, and one step of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden, normalised
from unidet.backends import nn, ops
from unidet.models import create_model
from unidet.weights_convert import detect_family


def build(golden: Golden, depth: int, backend: str) -> Any:
    state = golden.state()
    mapped = detect_family(state).to_native(state)
    assert mapped.description["name"] == f"resnet{depth}"
    model = create_model(f"resnet{depth}", backend=backend, seed=None)
    nn.load_arrays(model, mapped.arrays)
    return model


def stages(model: Any, images: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Intermediate tensors and the answer."""
    seen: dict[str, Any] = {}
    names = ("layer1", "layer2", "layer3", "layer4")

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen[name] = ops.to_numpy(output)

        return hook

    handles = [getattr(model, name).register_forward_hook(keep(name)) for name in names]
    outputs = model(images)
    for handle in handles:
        handle.remove()
    return seen, outputs


@pytest.mark.parametrize("depth", [18, 50])
def test_stages_and_logits(sample_data: Path, backend: str, depth: int) -> None:
    golden = Golden(sample_data, f"torchvision_resnet{depth}")
    model = build(golden, depth, backend)
    pixels = np.stack([normalised(golden.image(i)) for i in range(2)])
    images = ops.asarray(pixels, backend=backend)
    with ops.no_grad():
        golden.check("stem", model.stem(images))
        seen, outputs = stages(model, images)
    for name, array in seen.items():
        golden.check(name, array)
    np.testing.assert_allclose(
        ops.to_numpy(outputs["pooled"]), golden["pooled"], 1e-3, 1e-3 * golden["pooled"].std()
    )
    np.testing.assert_allclose(ops.to_numpy(outputs["logits"]), golden["logits"], 0, 2e-3)


def test_a_training_step(sample_data: Path, backend: str) -> None:
    golden = Golden(sample_data, "torchvision_resnet18")
    model = build(golden, 18, backend)
    model.train()
    pixels = np.stack([normalised(golden.image(i)) for i in range(2)])
    images = ops.asarray(pixels, backend=backend)
    labels = ops.asarray(golden["target"], backend=backend)
    weights = nn.trainable(model)

    def loss(*_: Any) -> Any:
        return ops.mean(ops.cross_entropy(model(images)["logits"], labels))

    value, gradients = ops.grad(loss, list(weights.values()))
    assert float(ops.item(value)) == pytest.approx(float(golden["train/loss"]), rel=2e-3)
    norms = {name: np.linalg.norm(ops.to_numpy(g)) for name, g in zip(weights, gradients)}
    state = nn.state_arrays(model)
    for key in golden.outputs.files:
        name = key.split("/")[-1]
        if key.startswith("train/gradnorm/"):
            assert norms[name] == pytest.approx(float(golden[key]), rel=1e-2), key
        elif key.startswith("train/after/"):
            np.testing.assert_allclose(state[name], golden[key], 2e-3, 1e-5, err_msg=key)
