"""Parts of CLIP that detectors share, against plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.backends import nn, ops, use
from unidet.models.clip.resnet import AttentionPool, CLIPBottleneck, CLIPResNet, make_clip_stage
from unidet.models.layers.resnet import make_norm
from unidet.models.unidetector.box_head import CLIPBoxHead, cosine_logits


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def answer(module: Any, x: np.ndarray, backend: str) -> np.ndarray:
    module.eval()
    with ops.no_grad():
        return ops.to_numpy(module(ops.asarray(x, backend=backend)))


# --- cosines ------------------------------------------------------------------------------------


def judge_cosines(vectors: np.ndarray, text: np.ndarray) -> np.ndarray:
    a, b = vectors.astype(np.float64), text.astype(np.float64)
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    return 100 * a @ (b / np.maximum(np.linalg.norm(b, axis=0, keepdims=True), 1e-12))


def test_cosines(backend: str) -> None:
    vectors, text = noise(6, 16) * 40, noise(16, 5, seed=1) * 0.01
    text[:, -1] = 0  # the background
    vectors[2] = 0
    found = ops.to_numpy(
        cosine_logits(ops.asarray(vectors, backend=backend), ops.asarray(text, backend=backend))
    )
    np.testing.assert_allclose(found, judge_cosines(vectors, text), atol=1e-4)
    assert not found[:, -1].any() and not found[2].any()
    assert np.abs(found).max() <= 100


def test_gradients_of_cosines(backend: str) -> None:
    """Those of the background's column, which is zero, too."""
    vectors, text, pull = noise(3, 8), noise(8, 4, seed=1), noise(3, 4, seed=2)
    text[:, -1] = 0

    def loss(a: Any, b: Any) -> Any:
        return ops.sum(cosine_logits(a, b) * ops.asarray(pull, like=a))

    inputs = [ops.asarray(x, backend=backend) for x in (vectors, text)]
    _, gradients = ops.grad(loss, inputs)
    found = ops.to_numpy(gradients[0])
    step = 1e-5
    for index in np.ndindex(*vectors.shape):
        sides = []
        for sign in (1, -1):
            moved = vectors.astype(np.float64)
            moved[index] += sign * step
            sides.append((judge_cosines(moved, text) * pull).sum())
        assert found[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-3, abs=1e-3)


# --- attention pool -----------------------------------------------------------------------------


def judge_pool(w: dict[str, np.ndarray], x: np.ndarray, heads: int) -> np.ndarray:
    """Multi-head attention over all tokens, of which the first answer is kept."""
    w = {name: value.astype(np.float64) for name, value in w.items()}
    count, channels = x.shape[:2]
    tokens = x.astype(np.float64).reshape(count, channels, -1).transpose(0, 2, 1)
    tokens = np.concatenate([tokens.mean(axis=1, keepdims=True), tokens], axis=1)
    tokens = tokens + w["positional_embedding"]
    q, k, v = (
        tokens @ w[f"{name}_proj.weight"].T + w[f"{name}_proj.bias"] for name in ("q", "k", "v")
    )
    depth = channels // heads
    out = np.zeros_like(tokens)
    for head in range(heads):
        own = slice(head * depth, (head + 1) * depth)
        scores = q[..., own] @ k[..., own].transpose(0, 2, 1) / np.sqrt(depth)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[..., own] = scores / scores.sum(axis=-1, keepdims=True) @ v[..., own]
    return (out @ w["c_proj.weight"].T + w["c_proj.bias"])[:, 0]


@pytest.mark.parametrize(("side", "channels"), [(4, 128), (7, 64), (3, 32)])
def test_attention_pool(backend: str, side: int, channels: int) -> None:
    pool = AttentionPool(side, channels, 24, backend=backend)
    arrays = {
        name: noise(*value.shape, seed=i) * np.float32(2 / np.sqrt(channels))
        for i, (name, value) in enumerate(nn.state_arrays(pool).items())
    }
    nn.load_arrays(pool, arrays)
    x = noise(3, channels, side, side, seed=99)
    assert pool.heads == max(channels // 64, 1)
    expected = judge_pool(arrays, x, pool.heads)
    np.testing.assert_allclose(answer(pool, x, backend), expected, atol=1e-5)


# --- blocks -------------------------------------------------------------------------------------


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Stride 1; padding that keeps the size."""
    side = weight.shape[-1]
    margin = side // 2
    x = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight.astype(np.float64))


def normalise(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    mean, var, scale, shift = (
        w[f"{name}.{key}"].astype(np.float64)[:, None, None]
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + shift


def halve(x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def judge_block(w: dict[str, np.ndarray], x: np.ndarray, stride: int) -> np.ndarray:
    x = x.astype(np.float64)
    y = np.maximum(normalise(convolve(x, w["conv1.weight"]), w, "bn1"), 0)
    y = np.maximum(normalise(convolve(y, w["conv2.weight"]), w, "bn2"), 0)
    if stride == 2:
        x, y = halve(x), halve(y)
    y = normalise(convolve(y, w["conv3.weight"]), w, "bn3")
    if "downsample.0.weight" in w:
        x = normalise(convolve(x, w["downsample.0.weight"]), w, "downsample.1")
    return np.maximum(x + y, 0)


@pytest.mark.parametrize(("inplanes", "stride"), [(16, 1), (8, 1), (16, 2), (12, 2)])
def test_bottleneck(backend: str, inplanes: int, stride: int) -> None:
    with use(backend):
        block = CLIPBottleneck(inplanes, 4, stride, make_norm("batch", 1e-5))
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        if "running_var" in name or "bn" in name
        else (rng.standard_normal(value.shape) * 0.4).astype(value.dtype)
        for name, value in nn.state_arrays(block).items()
    }
    nn.load_arrays(block, arrays)
    assert ("downsample.0.weight" in arrays) == (stride == 2 or inplanes != 16)
    x = noise(2, inplanes, 6, 8, seed=5)
    expected = judge_block(arrays, x, stride)
    found = answer(block, x, backend)
    assert found.shape == (2, 16, 6 // stride, 8 // stride)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_stages_and_strides(backend: str) -> None:
    network = CLIPResNet((1, 2, 1), 16, backend=backend)
    network.eval()
    with ops.no_grad():
        maps = network(ops.asarray(noise(1, 3, 64, 96), backend=backend))
    assert [ops.shape(x)[1:] for x in maps] == [(64, 16, 24), (128, 8, 12), (256, 4, 6)]
    assert network.channels == (64, 128, 256)
    with use(backend):
        stage, channels = make_clip_stage(2, 3, 16, make_norm("batch", 1e-5))
    assert channels == 512
    shape = ops.shape(stage(ops.asarray(noise(1, 256, 8, 8), backend=backend)))
    assert tuple(shape) == (1, 512, 4, 4)


def test_frozen_stages_must_exist() -> None:
    from unidet.backends import available

    for count in (-2, 4):
        with pytest.raises(ValueError, match=r"`frozen_stages`.*-1 to 3"):
            CLIPResNet((1, 1, 1), 16, frozen_stages=count, backend=available()[0])


def test_vocabularies_of_a_head(backend: str) -> None:
    """Published layout: columns, the background last and zero; numbered where there are several."""
    with use(backend):
        head = CLIPBoxHead(1, 16, 8, 12, (3, 5), several=True)
    names = ["text_embeddings_0", "text_embeddings_1"]
    assert [k for k in nn.state_arrays(head) if "text" in k] == names
    rows = [noise(2, 12), noise(4, 12, seed=1)]
    head.set_text(rows, several=True)
    for index, own in enumerate(rows):
        stored = nn.state_arrays(head)[f"text_embeddings_{index}"]
        np.testing.assert_array_equal(stored, np.pad(own.T, ((0, 0), (0, 1))))
        np.testing.assert_array_equal(ops.to_numpy(head.text(index)), stored)
    head.set_text(rows[:1])
    assert [k for k in nn.state_arrays(head) if "text" in k] == ["text_embeddings"]
    logits, deltas = head(ops.asarray(noise(2, 256, 8, 8), backend=backend))
    assert (tuple(ops.shape(logits)), tuple(ops.shape(deltas))) == ((2, 3), (2, 4))
    assert not any("text" in name for name in nn.trainable(head))
