"""Layers on ``numpy.ndarray``. Signatures and meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unidet.backends.numpy.ops_losses import softmax

Pair = int | tuple[int, int]

matmul = np.matmul


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    y = x @ w.T
    return y if b is None else y + b


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> np.ndarray:
    (sh, sw), (ph, pw), (dh, dw) = _pair(stride), _pair(padding), _pair(dilation)
    padded = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    n, _, height, width = padded.shape
    outputs, channels, kh, kw = w.shape
    rows = (height - dh * (kh - 1) - 1) // sh + 1
    columns = (width - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, outputs, rows, columns), x.dtype)
    for group in range(groups):
        source = padded[:, group * channels : (group + 1) * channels]
        target = slice(group * outputs // groups, (group + 1) * outputs // groups)
        for i in range(kh):
            for j in range(kw):
                tap = source[:, :, i * dh :: sh, j * dw :: sw][:, :, :rows, :columns]
                y[:, target] += np.einsum("nchw,mc->nmhw", tap, w[target, :, i, j])
    return y if b is None else y + b[:, None, None]


def _windows(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool
) -> list[tuple[int, int]]:
    """First and last-but-one position of each window, in coordinates of the unpadded input."""
    reach = size + 2 * padding - kernel
    count = (-(-reach // stride) if ceil_mode else reach // stride) + 1
    # A window that starts in the padding behind the end is dropped.
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    starts = [i * stride - padding for i in range(count)]
    return [(start, start + kernel) for start in starts]


def _pool(
    x: np.ndarray,
    kernel: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
    one: Callable[[np.ndarray, int], np.ndarray],
) -> np.ndarray:
    """``one(window, area)`` for each window; the area counts padding, but nothing beyond it."""
    kernel, padding = _pair(kernel), _pair(padding)
    stride = kernel if stride is None else _pair(stride)
    sizes = x.shape[2:]
    rows, columns = (
        _windows(sizes[a], kernel[a], stride[a], padding[a], ceil_mode) for a in (0, 1)
    )
    y = np.zeros((*x.shape[:2], len(rows), len(columns)), x.dtype)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            window = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
            height = min(bottom, sizes[0] + padding[0]) - top
            width = min(right, sizes[1] + padding[1]) - left
            y[:, :, i, j] = one(window, height * width)
    return y


def max_pool2d(
    x: np.ndarray,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> np.ndarray:
    return _pool(x, kernel, stride, padding, ceil_mode, lambda w, _: w.max((2, 3)))


def avg_pool2d(
    x: np.ndarray,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    def one(window: np.ndarray, area: int) -> np.ndarray:
        count = area if count_include_pad else window.shape[2] * window.shape[3]
        return window.sum((2, 3)) / x.dtype.type(count)

    return _pool(x, kernel, stride, padding, ceil_mode, one)


def adaptive_avg_pool2d(x: np.ndarray, size: Pair) -> np.ndarray:
    rows, columns = _pair(size)
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], rows, columns), x.dtype)
    for i in range(rows):
        for j in range(columns):
            top, bottom = i * height // rows, -(-(i + 1) * height // rows)
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            y[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return y


def interpolate(
    x: np.ndarray, size: tuple[int, int], mode: str = "nearest", align_corners: bool = False
) -> np.ndarray:
    if mode not in ("nearest", "bilinear"):
        raise ValueError(
            f"Invalid value for `mode`. Expected 'nearest' or 'bilinear'. Received {mode!r}."
        )
    for axis, target in zip((2, 3), size):
        if mode == "nearest":
            x = np.take(x, nearest_sources(x.shape[axis], target), axis=axis)
        else:
            weights = bilinear_weights(x.shape[axis], target, align_corners).astype(x.dtype)
            x = np.moveaxis(np.moveaxis(x, axis, -1) @ weights.T, -1, axis)
    return x


def nearest_sources(size: int, target: int) -> np.ndarray:
    """``(target,)`` source positions; the ratio is rounded to float32 as torch rounds it."""
    scale = np.float32(size) / np.float32(target)
    positions = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(positions, size - 1)


def bilinear_weights(size: int, target: int, align_corners: bool) -> np.ndarray:
    """``(target, size)`` float64 weights of linear interpolation along one axis."""
    place = np.arange(target, dtype=np.float64)
    if align_corners:
        place = place * ((size - 1) / (target - 1) if target > 1 else 0)
    else:
        place = np.maximum((place + 0.5) * (size / target) - 0.5, 0)
    low = np.minimum(np.floor(place).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    share = place - low
    weights = np.zeros((target, size))
    np.add.at(weights, (np.arange(target), low), 1 - share)
    np.add.at(weights, (np.arange(target), high), share)
    return weights


def batch_norm(
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    y = (x - _channels(mean, x)) / np.sqrt(_channels(var, x) + x.dtype.type(eps))
    return _affine(y, weight, bias)


def _channels(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape((1, -1) + (1,) * (x.ndim - 2))


def _affine(y: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None) -> np.ndarray:
    if weight is not None:
        y = y * _channels(weight, y)
    return y if bias is None else y + _channels(bias, y)


def _standardised(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    deviation = x - x.mean(axes, keepdims=True)
    variance = (deviation**2).mean(axes, keepdims=True)
    return deviation / np.sqrt(variance + x.dtype.type(eps))


def group_norm(
    x: np.ndarray,
    groups: int,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    grouped = x.reshape(x.shape[0], groups, int(np.prod(x.shape[1:])) // groups)
    return _affine(_standardised(grouped, (2,), eps).reshape(x.shape), weight, bias)


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    count = 1 if weight is None else weight.ndim
    y = _standardised(x, tuple(range(x.ndim - count, x.ndim)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def dropout(x: np.ndarray, mask: np.ndarray, p: float) -> np.ndarray:
    return x * mask.astype(x.dtype) / x.dtype.type(1 - p)


def scaled_dot_product_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None = None,
    dropout: float = 0.0,
) -> np.ndarray:
    if dropout:
        raise ValueError(
            "Invalid value for `dropout`. Expected 0: the NumPy reference draws no random numbers. "
            f"Received {dropout}."
        )
    if key.size == 0:
        return np.zeros((*query.shape[:-1], value.shape[-1]), query.dtype)
    scores = query @ np.swapaxes(key, -1, -2) / query.dtype.type(np.sqrt(query.shape[-1]))
    return softmax(scores if mask is None else scores + mask, -1) @ value
