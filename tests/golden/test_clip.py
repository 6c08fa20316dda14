"""CLIP RN50 against OpenAI's package: visual stages, features of both towers, logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden
from unidet.backends import nn, ops
from unidet.models import create_model

MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
#: Largest difference as a share of the features' norm.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def golden(sample_data: Path) -> Golden:
    return Golden(sample_data, "openai_clip_rn50")


@pytest.fixture(scope="module")
def weights(golden: Golden) -> dict[str, np.ndarray]:
    return golden.state()


def build(weights: dict[str, np.ndarray], backend: str) -> Any:
    """Strictly: native names are OpenAI's."""
    model = create_model("clip_rn50", backend=backend, seed=None)
    nn.load_arrays(model, weights)
    return model


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(found - expected).max(axis=1)
    assert (difference <= CLOSE * np.linalg.norm(expected, axis=1)).all(), difference.max()


def test_both_towers(golden: Golden, weights: dict[str, np.ndarray], backend: str) -> None:
    model = build(weights, backend)
    pixels = ((golden["crop224"].astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    images = ops.asarray(np.ascontiguousarray(pixels), backend=backend)
    tokens = golden["token_ids_truncated"][:10]
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen[name] = ops.to_numpy(output)

        return hook

    names = ("layer1", "layer2", "layer3", "layer4")
    for name in names:
        getattr(model.visual, name).register_forward_hook(keep(name))
    model.visual.pool.register_forward_hook(keep("stem"))
    model.visual.register_forward_hook(keep("features"))
    with ops.no_grad():
        texts = model.encode_text(tokens)
        logits = model(images, ops.asarray(tokens, backend=backend))["logits"]
    for name in ("stem", *names):
        golden.check(name, seen[name])
    assert_close(seen["features"], golden["image_features"])
    assert_close(ops.to_numpy(texts), golden["text_features"])
    expected = golden["logits_per_image"]
    np.testing.assert_allclose(ops.to_numpy(logits), expected, 1e-4, 1e-3)
