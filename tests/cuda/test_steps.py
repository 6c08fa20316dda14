"""Steps on the GPU: in parts, in half precision, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.distributed.test_parts import MODELS, cut, whole_batch
from unidet.backends import nn, optim, random
from unidet.engine.stepper import Stepper
from unidet.models import create_model


def losses(chosen: str, parts: list[tuple[int, int]], **options: Any) -> tuple[list[float], dict]:
    """Losses of three steps, and the weights behind them."""
    name, arguments = MODELS[chosen]
    model = nn.to_device(create_model(name, backend="torch", seed=1, **arguments), "cuda")
    model.train()
    optimizer = optim.create("sgd", model, lr=2e-4, momentum=0.9)
    stepper = Stepper(model, optimizer, device="cuda", **options)
    batches = [cut(whole_batch(), *part) for part in parts]
    found = []
    for step in range(3):
        with random.at(3, "step", step):
            found.append(stepper.step(batches, 1.0, lambda _: None)["loss"])
    return found, nn.state_arrays(model)


@pytest.mark.parametrize("chosen", ["retinanet", "faster_rcnn", "detr"])
def test_parts_add_up(chosen: str) -> None:
    expected, weights = losses(chosen, [(0, 4)])
    found, own = losses(chosen, [(0, 1), (1, 4)])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(own[name], value, atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("chosen", ["retinanet", "faster_rcnn", "detr"])
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_is_near(chosen: str, amp: str) -> None:
    expected, _ = losses(chosen, [(0, 4)])
    found, weights = losses(chosen, [(0, 4)], amp=amp)
    np.testing.assert_allclose(found, expected, rtol=0.03)
    assert all(np.isfinite(value).all() for value in weights.values())


def test_a_compiled_network_trains_alike() -> None:
    expected, _ = losses("retinanet", [(0, 4)])
    found, _ = losses("retinanet", [(0, 4)], compiled=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
