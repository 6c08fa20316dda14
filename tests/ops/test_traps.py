"""What Jittor does otherwise when left alone, each held to torch's behaviour.

Run on both backends: on torch they show that the expectation is torch's.
"""

from __future__ import annotations

import numpy as np
import pytest

from unidet.backends import ops


def _tensor(values: object, backend: str, dtype: str = "float32"):
    return ops.asarray(np.asarray(values, dtype), backend=backend)


def _slope(function, values: object, backend: str) -> list[float]:
    """Gradient of the sum of ``function`` at ``values``."""
    x = _tensor(values, backend)
    gradients = ops.grad(lambda a: ops.sum(function(a)), [x])[1]
    return ops.to_numpy(gradients[0]).tolist()


def _values(x: object) -> list:
    return np.asarray(ops.to_numpy(x)).tolist()


# --- dtypes ---


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8", "bool", "int32", "float16"])
def test_no_dtype_is_narrowed(backend: str, dtype: str) -> None:
    x = _tensor([[1, 0, 1]], backend, dtype)
    assert ops.dtype(x) == dtype
    assert ops.to_numpy(x).dtype == np.dtype(dtype)
    assert ops.dtype(ops.full((2,), 1, dtype, backend=backend)) == dtype


def test_large_integers_survive(backend: str) -> None:
    assert _values(ops.asarray([2**40], backend=backend)) == [2**40]
    assert _values(ops.full((1,), 2**40, "int64", backend=backend)) == [2**40]


def test_bool_and_small_integers_sum_as_int64(backend: str) -> None:
    total = ops.sum(ops.full((300,), 200, "uint8", backend=backend))
    assert ops.dtype(total) == "int64"
    assert ops.item(total) == 60000
    assert _values(ops.cumsum(_tensor([1, 1, 0, 1], backend, "bool"), 0)) == [1, 2, 2, 3]


def test_a_mask_times_a_number_through_cast(backend: str) -> None:
    mask = _tensor([1, 0], backend, "bool")
    scaled = ops.cast(mask, "float32") * 0.3
    assert ops.dtype(scaled) == "float32"
    assert _values(scaled) == [np.float32(0.3), 0.0]


def test_mean_of_a_mask_is_refused(backend: str) -> None:
    with pytest.raises(TypeError):
        ops.mean(_tensor([1, 0, 1], backend, "bool"))


def test_numbers_do_not_widen(backend: str) -> None:
    x = _tensor([1.0, -1.0], backend)
    positive = x > 0
    for result in (
        ops.maximum(x, 0.5),
        ops.where(positive, x, 0.0),
        ops.where(positive, 1.0, x),
        ops.clip(x, 0, 1),
        ops.remainder(x, 0.3),
    ):
        assert ops.dtype(result) == "float32"
    assert ops.dtype(ops.floor_divide(_tensor([7], backend, "int64"), 2)) == "int64"


def test_floor_division_and_remainder_floor(backend: str) -> None:
    x = _tensor([-7, -4, 7], backend, "int64")
    assert _values(ops.floor_divide(x, 2)) == [-4, -2, 3]
    assert _values(ops.remainder(x, 3)) == [2, 2, 1]
    y = _tensor([-3.0, 2.5, 3.0], backend)
    assert _values(ops.floor_divide(y, 2.0)) == [-2.0, 1.0, 1.0]
    assert ops.dtype(ops.floor_divide(y, 2.0)) == "float32"


# --- gradients at ties and bounds ---


def test_gradients_at_ties(backend: str) -> None:
    x, y = _tensor([1, 2, 3], backend), _tensor([1, 3, 2], backend)
    for function, expected in (
        (ops.maximum, [[0.5, 0.0, 1.0], [0.5, 1.0, 0.0]]),
        (ops.minimum, [[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]]),
    ):
        found = ops.grad(lambda a, b, f=function: ops.sum(f(a, b)), [x, y])[1]
        assert [_values(g) for g in found] == expected


def test_gradient_of_max_is_shared(backend: str) -> None:
    values = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    third = float(np.float32(1) / np.float32(3))
    assert _slope(lambda x: ops.max(x, 1), values, backend) == [[0, 0.5, 0.5], [third] * 3]
    assert _slope(lambda x: ops.min(x, 1), values, backend) == [[1, 0, 0], [third] * 3]


def test_gradients_at_bounds(backend: str) -> None:
    assert _slope(lambda x: ops.clip(x, 0, 1), [-1, 0, 0.5, 1, 2], backend) == [0, 1, 1, 1, 0]
    assert _slope(ops.abs, [-2, 0, 2], backend) == [-1, 0, 1]
    assert _slope(ops.relu, [-2, 0, 2], backend) == [0, 0, 1]


def test_losses_at_their_kinks(backend: str) -> None:
    zero = _tensor([0, 0, 0], backend)
    one = _tensor([1, 1, 1], backend)
    entropy = ops.binary_cross_entropy_with_logits
    assert _slope(lambda x: entropy(x, one), [0, 0, 0], backend) == [-0.5] * 3
    assert _slope(lambda x: ops.smooth_l1(x, zero, 1.0), [0, 1, -3], backend) == [0, 1, -1]
    assert _slope(lambda x: ops.smooth_l1(x, zero, 0.0), [0, 1, -3], backend) == [0, 1, -1]


def test_no_gradient_through_steps(backend: str) -> None:
    for function in (ops.floor, ops.ceil, ops.round, ops.sign):
        assert _slope(lambda x, f=function: f(x) + x, [0.5, -1.5], backend) == [1, 1]


def test_losses_stay_finite(backend: str) -> None:
    logits = [-1000.0, -100.0, 100.0, 1000.0]
    for truth in (0.0, 1.0):
        y = ops.full((4,), truth, backend=backend)
        for function in (ops.binary_cross_entropy_with_logits, ops.sigmoid_focal_loss):
            assert np.isfinite(_slope(lambda x, f=function, y=y: f(x, y), logits, backend)).all()


# --- NaN and infinity ---


def test_nan_is_found(backend: str) -> None:
    x = _tensor([np.nan, np.inf, -np.inf, 0], backend)
    assert _values(ops.isnan(x)) == [True, False, False, False]
    assert _values(ops.isinf(x)) == [False, True, True, False]
    assert _values(ops.isfinite(x)) == [False, False, False, True]
    assert _values(ops.isnan(x * 0)) == [True, True, True, False]


@pytest.mark.parametrize(
    "function",
    [
        ops.relu,
        ops.abs,
        ops.sigmoid,
        ops.softplus,
        ops.tanh,
        ops.max,
        ops.min,
        ops.sum,
        lambda x: ops.clip(x, -1, 1),
        lambda x: ops.maximum(x, 0.0),
        lambda x: ops.minimum(x, 0.0),
        lambda x: ops.softmax(x, 0),
        lambda x: ops.logsumexp(x, 0),
        lambda x: ops.topk(x, 1)[0],
    ],
)
def test_nan_propagates(backend: str, function) -> None:
    assert np.isnan(ops.to_numpy(function(_tensor([1, np.nan, 2], backend)))).any()


def test_a_line_of_minus_infinity(backend: str) -> None:
    x = _tensor([[-np.inf, -np.inf], [0, -np.inf]], backend)
    assert _values(ops.max(x, 1)) == [-np.inf, 0.0]
    assert _values(ops.logsumexp(x, 1)) == [-np.inf, 0.0]
    assert np.isnan(_values(ops.softmax(x, 1))[0]).all()


def test_nan_is_the_extreme(backend: str) -> None:
    x = _tensor([[1, np.nan, np.inf], [3, 1, 2]], backend)
    assert _values(ops.argmax(x, 1)) == [1, 0]
    assert _values(ops.argmin(x, 1)) == [1, 1]
    assert _values(ops.argsort(x, 1)) == [[0, 2, 1], [1, 2, 0]]
    assert _values(ops.argsort(x, 1, descending=True)) == [[1, 2, 0], [0, 2, 1]]


def test_halves_round_to_even(backend: str) -> None:
    x = _tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], backend)
    assert _values(ops.round(x)) == [-2, -2, 0, 0, 2, 2]


# --- indices ---


def test_negative_indices_keep_their_gradient(backend: str) -> None:
    indices = _tensor([-1, 0, -1], backend, "int64")
    assert _slope(lambda x: ops.take(x, indices), [1, 2, 3], backend) == [1, 0, 2]
    x = ops.zeros((3,), backend=backend)
    assert _values(ops.index_put(x, _tensor([-1], backend, "int64"), 7.0)) == [0, 0, 7]


@pytest.mark.cpu
@pytest.mark.parametrize("index", [3, -4, 10**6])
def test_missing_indices_raise(backend: str, index: int) -> None:
    x = ops.zeros((3, 2), backend=backend)
    indices = _tensor([index], backend, "int64")
    with pytest.raises(IndexError):
        ops.take(x, indices)
    with pytest.raises(IndexError):
        ops.index_put(x, indices, 1.0)
    # torch raises IndexError or RuntimeError here.
    with pytest.raises((IndexError, RuntimeError)):
        ops.gather(x, ops.reshape(indices, (1, 1)), 0)
    with pytest.raises((IndexError, RuntimeError)):
        ops.scatter_add(x, ops.reshape(indices, (1, 1)), ops.ones((1, 1), like=x), 0)


def test_duplicates_add_up(backend: str) -> None:
    indices = _tensor([1, 1, 0, 1], backend, "int64")
    zeros, ones = ops.zeros((2, 3), backend=backend), ops.ones((4, 3), backend=backend)
    assert _values(ops.scatter_add(zeros, indices, ones)) == [[1, 1, 1], [3, 3, 3]]
    found = ops.grad(
        lambda x, s: ops.sum(ops.scatter_add(x, indices, s) * _tensor([[1], [2]], backend)),
        [zeros, ones],
    )[1]
    assert _values(found[1]) == [[2, 2, 2], [2, 2, 2], [1, 1, 1], [2, 2, 2]]
    assert _slope(lambda x: ops.take(x, indices), [5, 6], backend) == [1, 3]


def test_arguments_are_never_written_to(backend: str) -> None:
    x = _tensor([[1, 2], [3, 4]], backend)
    ops.sync(x)
    rows = _tensor([0], backend, "int64")
    source = ops.ones((1, 2), like=x)
    for changed in (
        ops.index_put(x, rows, source),
        ops.scatter_add(x, rows, source),
        ops.scatter_add(x, ops.zeros((1, 2), "int64", like=x), source),
        ops.pad(x, [(0, 1), (0, 0)], 9.0),
    ):
        ops.sync(changed)
        assert _values(x) == [[1, 2], [3, 4]]
    ops.to_numpy(x)[0, 0] = 9
    assert _values(x) == [[1, 2], [3, 4]]


def test_sorting_is_stable(backend: str) -> None:
    values = np.random.default_rng(0).integers(0, 5, 400).astype(np.float32)
    x = _tensor(values, backend)
    rising = np.argsort(values, kind="stable")
    falling = np.argsort(-values, kind="stable")
    assert _values(ops.argsort(x)) == rising.tolist()
    assert _values(ops.argsort(x, descending=True)) == falling.tolist()
    assert _values(ops.topk(x, 60)[1]) == falling[:60].tolist()


def test_topk_of_both_zeros(backend: str) -> None:
    x = _tensor([-0.0, 0.0, -0.0, -1, 0.0, -2, -3, -4, -5, -6, -7, -8, -9], backend)
    assert _values(ops.topk(x, 3)[1]) == [0, 1, 2]


def test_topk_keeps_the_gradient(backend: str) -> None:
    assert _slope(lambda x: ops.topk(x, 2)[0], [1, 5, 3, 4], backend) == [0, 1, 0, 1]
    assert _slope(lambda x: ops.sort(x)[:2], [1, 5, 3, 4], backend) == [1, 0, 1, 0]


def test_unique_keeps_fractions_apart(backend: str) -> None:
    assert _values(ops.unique(_tensor([1.75, 1.25, 1.75], backend))) == [1.25, 1.75]


# --- nothing at all ---


def test_nothing(backend: str) -> None:
    boxes = ops.zeros((0, 4), backend=backend)
    assert np.isnan(ops.item(ops.mean(boxes)))
    assert ops.item(ops.sum(boxes)) == 0
    assert not ops.item(ops.any(boxes > 0))
    assert ops.item(ops.all(boxes > 0))
    for function in (ops.max, ops.min):
        with pytest.raises(ValueError):
            function(boxes)
    with pytest.raises(ValueError):
        ops.argmax(boxes, 0)
    assert ops.shape(ops.topk(boxes, 2)[1]) == (0, 2)
    assert ops.shape(ops.concat([boxes, ops.ones((2, 4), like=boxes)])) == (2, 4)
    with pytest.raises((ValueError, RuntimeError)):
        ops.reshape(boxes, (0, -1))


def test_a_loss_over_nothing_has_a_gradient(backend: str) -> None:
    weight = ops.ones((2, 4), backend=backend)
    boxes = ops.zeros((0, 4), backend=backend)

    def loss(w):
        found = ops.linear(boxes, w)
        return ops.sum(ops.smooth_l1(found, ops.zeros((0, 2), like=w))) + ops.sum(w)

    value, gradients = ops.grad(loss, [weight])
    assert ops.item(value) == 8
    assert _values(gradients[0]) == [[1] * 4] * 2


# --- accuracy ---


def test_large_sums(backend: str) -> None:
    x = ops.full((2_000_000,), 0.1, backend=backend)
    # 5e-7 is what float32 itself allows here.
    assert ops.item(ops.sum(x)) == pytest.approx(2e5, rel=1e-6)
    assert ops.item(ops.mean(x + 1000)) == pytest.approx(1000.1, rel=1e-6)


def test_running_sums(backend: str) -> None:
    x = ops.full((100_000,), 0.1, backend=backend)
    assert ops.to_numpy(ops.cumsum(x, 0))[-1] == pytest.approx(1e4, rel=1e-5)


def test_statistics_around_a_large_mean(backend: str) -> None:
    x = np.random.default_rng(0).normal(300, 1, (2, 4, 40, 40)).astype(np.float32)
    wide = x.astype(np.float64)
    variance = ops.var(_tensor(x, backend), (0, 2, 3))
    np.testing.assert_allclose(ops.to_numpy(variance), wide.var((0, 2, 3)), rtol=1e-4)
    grouped = wide.reshape(2, 2, -1)
    want = (grouped - grouped.mean(2, keepdims=True)) / grouped.std(2, keepdims=True)
    got = ops.to_numpy(ops.group_norm(_tensor(x, backend), 2))
    np.testing.assert_allclose(got.reshape(2, 2, -1), want, atol=1e-4)


def test_small_arguments_of_log1p(backend: str) -> None:
    x = np.array([1e-10, -1e-8, 1e-4, 0.29, 0.31], np.float32)
    got = ops.to_numpy(ops.log1p(_tensor(x, backend)))
    np.testing.assert_allclose(got, np.log1p(x.astype(np.float64)), rtol=1e-6)


def test_small_probabilities(backend: str) -> None:
    x = np.array([-80, -40, -20, 20], np.float32)
    wide = x.astype(np.float64)
    got = ops.to_numpy(ops.softplus(_tensor(x, backend)))
    np.testing.assert_allclose(got, np.logaddexp(0, wide), rtol=2e-6)
    got = ops.to_numpy(ops.log_sigmoid(_tensor(-x, backend)))
    np.testing.assert_allclose(got, -np.logaddexp(0, wide), rtol=2e-6)


# --- windows ---


def test_pools_of_the_whole_image(backend: str) -> None:
    x = _tensor(np.arange(50).reshape(1, 2, 5, 5), backend)
    assert _values(ops.max_pool2d(x, 5)) == [[[[24.0]], [[49.0]]]]
    for means in (ops.avg_pool2d(x, 5), ops.adaptive_avg_pool2d(x, 1)):
        # Whether each value or their sum is divided is up to the compiler, by processor.
        np.testing.assert_allclose(ops.to_numpy(means), [[[[12.0]], [[37.0]]]], rtol=1e-6)


def test_padding_can_be_left_out_of_means(backend: str) -> None:
    x = ops.ones((1, 1, 4, 4), backend=backend)
    assert _values(ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False)) == [[[[1.0] * 2] * 2]]


# --- non-maximum suppression ---


def test_boxes_are_not_one_pixel_wider(backend: str) -> None:
    # IoU 0.474; with the "+1" of pixel grids it would be above 0.49.
    boxes = _tensor([[0, 0, 10, 9], [0, 0, 10, 19]], backend)
    scores = _tensor([0.9, 0.8], backend)
    assert ops.item(ops.box_iou(boxes[:1], boxes[1:])) == pytest.approx(9 / 19)
    assert _values(ops.nms(boxes, scores, 0.49)) == [0, 1]
    assert _values(ops.nms(boxes, scores, 0.47)) == [0]


@pytest.mark.parametrize("method", ["linear", "gaussian", "hard"])
def test_composites_equal_kernels(
    backend: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 60, (80, 2))
    boxes = _tensor(np.concatenate([low, low + rng.uniform(5, 30, (80, 2))], 1), backend)
    scores = _tensor(rng.uniform(0, 1, 80).round(1), backend)
    classes = _tensor(rng.integers(0, 3, 80), backend, "int64")

    def results() -> list[np.ndarray]:
        soft = ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method)
        found = [ops.nms(boxes, scores, 0.3), ops.batched_nms(boxes, scores, classes, 0.3), *soft]
        return [ops.to_numpy(x) for x in found]

    monkeypatch.delenv("UNIDET_KERNELS", raising=False)
    kernels = results()
    monkeypatch.setenv("UNIDET_KERNELS", "composite")
    composites = results()
    for a, b in zip(kernels[:3], composites[:3]):
        assert a.tolist() == b.tolist()
    np.testing.assert_allclose(kernels[3], composites[3], rtol=1e-5)
    assert 0 < len(kernels[0]) < len(kernels[1]) < 80
