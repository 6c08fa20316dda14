"""What attention does beyond the samples of the table: hidden keys and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.spec import TOLERANCES
from unidet.backends import ops
from unidet.backends.random import seed_framework

RELATIVE, ABSOLUTE = TOLERANCES["reduction"]


def arrays() -> list[np.ndarray]:
    """Queries ``(2, 2, 4, 8)``, keys and values ``(2, 2, 6, 8)``."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, 2, n, 8)).astype(np.float32) for n in (4, 6, 6)]


def attend(given: list[np.ndarray], backend: str, mask: np.ndarray | None = None) -> np.ndarray:
    query, key, value = (ops.asarray(x, backend=backend) for x in given)
    hides = None if mask is None else ops.asarray(mask, backend=backend)
    return ops.to_numpy(ops.scaled_dot_product_attention(query, key, value, hides))


def padding_mask() -> np.ndarray:
    """Hides the last two keys of the first image and all of the second: ``(2, 1, 1, 6)``."""
    mask = np.full((2, 1, 1, 6), -1e9, np.float32)
    mask[0, ..., :4] = 0
    return mask


def check_hidden_keys(backend: str) -> None:
    query, key, value = given = arrays()
    found = attend(given, backend, padding_mask())
    shown = attend([query, key[:, :, :4], value[:, :, :4]], backend)
    np.testing.assert_allclose(found[0], shown[0], RELATIVE, ABSOLUTE)
    average = np.broadcast_to(value[1].mean(1, keepdims=True), (2, 4, 8))
    np.testing.assert_allclose(found[1], average, RELATIVE, ABSOLUTE)


def test_hidden_keys(backend: str) -> None:
    check_hidden_keys(backend)


def test_hidden_keys_of_the_reference() -> None:
    check_hidden_keys("numpy")


def test_hidden_keys_get_no_gradient(backend: str) -> None:
    mask = ops.asarray(padding_mask(), backend=backend)
    inputs = [ops.asarray(x, backend=backend) for x in arrays()]

    def total(*tensors: Any) -> Any:
        return ops.sum(ops.square(ops.scaled_dot_product_attention(*tensors, mask)))

    gradients = [ops.to_numpy(g) for g in ops.grad(total, inputs)[1]]
    assert all(np.isfinite(g).all() for g in gradients)
    for g in gradients[1:]:
        assert not g[0, :, 4:].any()
        assert g[0, :, :4].all() and g[1].any()


def test_dropout_takes_weights_and_enlarges_the_rest(backend: str) -> None:
    # Equal keys and values that name their row: the answer is the weights themselves.
    keys, share = 64, 0.25
    query = ops.zeros((1, 8, 64, keys), backend=backend)
    value = ops.asarray(np.tile(np.eye(keys, dtype=np.float32), (1, 8, 1, 1)), backend=backend)
    seed_framework(0, "attention", backend=backend)
    weights = ops.to_numpy(ops.scaled_dot_product_attention(query, value, value, None, share))
    kept = weights > 0
    np.testing.assert_allclose(weights[kept], 1 / keys / (1 - share), RELATIVE)
    assert abs(kept.mean() - (1 - share)) < 0.015
    again = ops.to_numpy(ops.scaled_dot_product_attention(query, value, value, None, share))
    assert (again != weights).any()


def test_the_reference_draws_nothing() -> None:
    with pytest.raises(ValueError, match="dropout"):
        ops.scaled_dot_product_attention(*arrays(), None, 0.1)
