"""Every layer agrees with torch: values, gradients, running statistics."""

from __future__ import annotations

import numpy as np
import pytest

from tests.nn.helpers import backward, host, tensor
from unidet.backends import nn

pytestmark = pytest.mark.usefixtures("both")


def draw(*shape: int, offset: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(sum(shape)).standard_normal(shape) + offset
    return values.astype(np.float32)


def scramble(model) -> None:
    """Parameters that differ from the neutral ones and zeros."""
    generator = np.random.default_rng(1)
    arrays = {
        name: generator.uniform(0.5, 1.5, shape)
        for name, shape in nn.shapes(model).items()
        if "tracked" not in name
    }
    nn.load_arrays(model, arrays, strict=False)


def compare(make, image: np.ndarray, training: bool = True, rtol: float = 1e-4) -> None:
    """Output, gradients of input and parameters, and state after the call."""
    results = {}
    for backend in ("torch", "jittor"):
        model = make(backend)
        scramble(model)
        model.train(training)
        x = tensor(backend, image)
        if backend == "torch":
            x.requires_grad_(True)
        output = model(x)
        weights = np.random.default_rng(2).standard_normal(tuple(output.shape)).astype(np.float32)
        inputs = [x, *nn.parameters(model).values()]
        gradients = backward(backend, output, inputs, weights)
        results[backend] = [host(output), *gradients, *nn.state_arrays(model).values()]
    for ours, theirs in zip(results["jittor"], results["torch"], strict=True):
        assert ours.shape == theirs.shape or ours.shape in ((1,), ())
        scale = max(np.abs(theirs).max(), 1e-3) if theirs.size else 1
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol, rtol * scale)


CASES = {
    "conv": (lambda b: nn.Conv2d(4, 6, 3, stride=2, padding=1, backend=b), (2, 4, 9, 8)),
    "conv_groups": (
        lambda b: nn.Conv2d(4, 6, (3, 1), 1, (2, 0), 2, 2, bias=False, backend=b),
        (1, 4, 9, 8),
    ),
    "conv_1x1": (lambda b: nn.Conv2d(4, 6, 1, backend=b), (3, 4, 5, 7)),
    "conv_1x1_no_bias": (lambda b: nn.Conv2d(4, 6, 1, bias=False, backend=b), (1, 4, 5, 7)),
    "conv_1x1_strided": (lambda b: nn.Conv2d(4, 6, 1, (2, 3), backend=b), (2, 4, 5, 8)),
    "conv_1x1_padded": (lambda b: nn.Conv2d(4, 6, 1, padding=1, backend=b), (2, 4, 5, 7)),
    "linear": (lambda b: nn.Linear(5, 3, backend=b), (2, 7, 5)),
    "group_norm": (lambda b: nn.GroupNorm(2, 6, backend=b), (2, 6, 5, 4)),
    "layer_norm": (lambda b: nn.LayerNorm((3, 8), backend=b), (2, 4, 3, 8)),
    "max_pool": (lambda b: nn.MaxPool2d(3, 2, 1, backend=b), (2, 3, 9, 8)),
    "max_pool_ceil": (lambda b: nn.MaxPool2d(2, 2, 0, ceil_mode=True, backend=b), (2, 3, 7, 5)),
    "max_pool_whole": (lambda b: nn.MaxPool2d((4, 3), backend=b), (2, 3, 4, 3)),
    "avg_pool": (
        lambda b: nn.AvgPool2d(3, 2, 1, count_include_pad=False, backend=b),
        (2, 3, 9, 8),
    ),
    "relu": (lambda b: nn.ReLU(backend=b), (3, 4)),
    "frozen_norm": (lambda b: nn.FrozenBatchNorm2d(3, eps=0.1, backend=b), (2, 3, 5, 4)),
    "block": (
        lambda b: nn.Sequential(
            nn.Conv2d(3, 4, 1, bias=False, backend=b),
            nn.BatchNorm2d(4, backend=b),
            nn.ReLU(backend=b),
            nn.BatchNorm2d(4, affine=False, backend=b),
            backend=b,
        ),
        (2, 3, 6, 5),
    ),
}


#: A large mean is what tells two-pass statistics from one-pass ones.
SHIFTED = [(name, 300.0) for name in ("group_norm", "layer_norm", "frozen_norm", "max_pool")]


@pytest.mark.parametrize(("name", "offset"), [*((name, 0.0) for name in CASES), *SHIFTED])
def test_layer_agrees_with_torch(name, offset):
    make, shape = CASES[name]
    compare(make, draw(*shape, offset=offset), rtol=1e-3 if offset else 1e-4)


@pytest.mark.parametrize(
    ("options", "training"),
    [
        ({}, True),
        ({}, False),
        ({"momentum": None}, True),
        ({"momentum": 0.3, "eps": 1e-3}, True),
        ({"affine": False}, True),
        ({"track_running_stats": False}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_batch_norm_agrees_with_torch(options, training, offset):
    compare(
        lambda b: nn.BatchNorm2d(5, backend=b, **options),
        draw(2, 5, 7, 6, offset=offset),
        training,
        rtol=2e-3 if offset else 1e-4,
    )


def test_batch_norm_with_large_mean_is_accurate():
    """Against float64: one-pass float32 statistics are 4 % off here."""
    x = draw(2, 4, 16, 16, offset=300.0)
    model = nn.BatchNorm2d(4, backend="jittor")
    wide = x.astype(np.float64)
    centred = wide - wide.mean((0, 2, 3), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(host(model(tensor("jittor", x))), expected, atol=1e-4)
    unbiased = wide.transpose(1, 0, 2, 3).reshape(4, -1).var(1, ddof=1)
    np.testing.assert_allclose(
        nn.state_arrays(model)["running_var"], 0.9 + 0.1 * unbiased, rtol=1e-6
    )


def test_running_statistics_over_many_batches(backend):
    model = nn.BatchNorm2d(3, momentum=None, backend=backend)
    batches = [draw(2, 3, 4, 5, offset=i) for i in range(5)]
    for batch in batches:
        model(tensor(backend, batch))
    arrays = nn.state_arrays(model)
    assert arrays["num_batches_tracked"] == 5
    means = np.mean([b.mean((0, 2, 3)) for b in batches], 0)
    np.testing.assert_allclose(arrays["running_mean"], means, rtol=1e-5)
    model.eval()(tensor(backend, batches[0]))
    np.testing.assert_array_equal(nn.state_arrays(model)["running_mean"], arrays["running_mean"])


def test_batch_norm_refuses_one_value_per_channel(backend):
    with pytest.raises(ValueError, match=r"more than 1 value|more than one value"):
        nn.BatchNorm2d(2, backend=backend)(tensor(backend, np.zeros((1, 2, 1, 1), np.float32)))


def test_norm_and_relu_keep_both_results():
    """The rectified kernel replaces the plain one only where nobody else looks."""
    x = draw(2, 3, 5, 4)
    norm, relu = nn.BatchNorm2d(3, backend="jittor"), nn.ReLU(backend="jittor")
    plain = norm(tensor("jittor", x))
    rectified = relu(plain)
    np.testing.assert_array_equal(host(rectified), np.maximum(host(plain), 0))
    weights = draw(2, 3, 5, 4)
    parameters = list(nn.parameters(norm).values())
    both = backward("jittor", plain + rectified, parameters, weights)
    apart = [
        a + b
        for a, b in zip(
            backward("jittor", plain, parameters, weights),
            backward("jittor", plain, parameters, weights * (host(plain) > 0)),
        )
    ]
    for ours, expected in zip(both, apart):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_nan_passes_through_norm_relu_and_pool(backend):
    x = draw(1, 2, 4, 4)
    x[0, 0, 1, 1] = np.nan
    model = nn.Sequential(
        nn.BatchNorm2d(2, backend=backend),
        nn.ReLU(backend=backend),
        nn.MaxPool2d(2, backend=backend),
        backend=backend,
    )
    result = host(model(tensor(backend, x)))
    assert np.isnan(result[0, 0]).all() and np.isfinite(result[0, 1]).all()
    pooled = host(nn.MaxPool2d(2, backend=backend)(tensor(backend, x)))
    assert np.isnan(pooled[0, 0, 0, 0]) and np.isnan(pooled).sum() == 1


def test_max_pool_composite_agrees_with_its_kernel():
    """The form for other devices and dtypes, on one that the kernel leaves to it."""
    x = np.round(draw(2, 3, 7, 6) * 2)  # many ties
    model = nn.MaxPool2d(3, 2, 1, ceil_mode=True, backend="jittor")
    results = []
    for dtype in (np.float32, np.float64):
        image = tensor("jittor", x.astype(dtype))
        output = model(image)
        weights = np.random.default_rng(2).standard_normal(tuple(output.shape)).astype(dtype)
        results.append([host(output), *backward("jittor", output, [image], weights)])
    for kernel, composite in zip(*results):
        np.testing.assert_allclose(kernel, composite, rtol=1e-5, atol=1e-6)


def test_batch_norm_composite_agrees_with_its_kernel():
    x, weights = draw(2, 3, 5, 4, offset=10), draw(2, 3, 5, 4)
    results = []
    for dtype in (np.float32, np.float64):
        model = nn.BatchNorm2d(3, backend="jittor")
        image = tensor("jittor", x.astype(dtype))
        output = model(image)
        inputs = [image, *nn.parameters(model).values()]
        gradients = backward("jittor", output, inputs, weights.astype(dtype))
        results.append([host(output), *gradients, *nn.state_arrays(model).values()])
    for kernel, composite in zip(*results):
        np.testing.assert_allclose(kernel, composite, rtol=1e-4, atol=1e-5)


def test_max_pool_refuses_bad_windows(backend):
    image = tensor(backend, np.zeros((1, 1, 2, 2), np.float32))
    for pool in (nn.MaxPool2d(2, 1, 2, backend=backend), nn.MaxPool2d(5, 1, 0, backend=backend)):
        with pytest.raises((ValueError, RuntimeError)):
            pool(image)


def test_embedding_agrees_with_torch():
    results = {}
    for backend in ("torch", "jittor"):
        model = nn.Embedding(5, 3, padding_idx=-1, backend=backend)
        output = model(tensor(backend, np.array([[0, 4], [2, 0]])))
        weights = draw(2, 2, 3)
        results[backend] = [
            host(output),
            *backward(backend, output, list(nn.parameters(model).values()), weights),
        ]
    for ours, theirs in zip(results["jittor"], results["torch"]):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert not results["jittor"][0][0, 1].any() and not results["jittor"][1][4].any()


def test_group_norm_of_one_value_is_the_bias(backend):
    """One channel a group on a map of one pixel; torch's own layer raises."""
    model = nn.GroupNorm(6, 6, backend=backend)
    scramble(model)
    found = host(model(tensor(backend, draw(1, 6, 1, 1))))
    np.testing.assert_allclose(found.ravel(), nn.state_arrays(model)["bias"], atol=1e-4)


def test_dropout(backend):
    from unidet.backends import random

    model, x = nn.Dropout(0.25, backend=backend), tensor(backend, np.ones((100, 100), np.float32))
    masks = []
    for step in (0, 0, 1):
        random.seed_framework(7, step, backend=backend)
        masks.append(host(model(x)))
    assert set(np.unique(masks[0]).round(5)) == {0, np.float32(4 / 3).round(5)}
    assert (masks[0] == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()
    np.testing.assert_array_equal(host(model.eval()(x)), 1)


@pytest.mark.cpu
def test_products_on_torch_equal_its_convolution() -> None:
    import torch

    image = draw(2, 4, 64, 65)
    for options in ({}, {"bias": False}):
        layer = nn.Conv2d(4, 6, 1, backend="torch", **options)
        scramble(layer)
        found, expected = [], []
        for form, answers in (
            (layer, found),
            (lambda x, layer=layer: torch.conv2d(x, layer.weight, layer.bias), expected),
        ):
            x = tensor("torch", image).requires_grad_()
            y = form(x)
            parameters = [p for p in (layer.weight, layer.bias) if p is not None]
            # All above 0, so that no sum cancels.
            weights = 2 + torch.cos(torch.arange(y.numel())).reshape(y.shape)
            answers += [y, *torch.autograd.grad((y * weights).sum(), [x, *parameters])]
        assert "Convolution" not in type(found[0].grad_fn).__name__
        for ours, theirs in zip(found, expected, strict=True):
            scale = float(theirs.detach().abs().max())
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale)


def test_jittor_has_a_matrix_product_for_1x1_kernels() -> None:
    from unidet.backends.jittor import conv

    assert conv._product() is not None
