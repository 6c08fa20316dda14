"""Layers and boxes on ``jittor.Var``. Signatures and meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from unidet.backends import kernels
from unidet.backends.jittor import jt
from unidet.backends.jittor.batch_norm import affine, batch_norm_inference
from unidet.backends.jittor.conv import conv2d as _conv2d
from unidet.backends.jittor.host import constant, dtype_of, var_of
from unidet.backends.jittor.ops_reductions import mean, softmax
from unidet.backends.jittor.pooling import max_pool2d as _max_pool2d
from unidet.backends.jittor.resample import bilinear_taps, nearest_taps, resample, window_taps
from unidet.backends.kernels import composite

Var = Any
Pair = int | tuple[int, int]


def _pair(value: Pair) -> tuple[int, int]:
    return (int(value), int(value)) if np.ndim(value) == 0 else (int(value[0]), int(value[1]))


def matmul(x: Var, y: Var) -> Var:
    if y.ndim == 2:
        rows = jt.matmul(x.reshape([-1 if x.numel() else 0, x.shape[-1]]), y)
        return rows.reshape([*x.shape[:-1], y.shape[1]])
    batch = list(x.shape[:-2])
    count = int(np.prod(batch))
    if jt.flags.use_cuda or batch != list(y.shape[:-2]) or not 0 < count <= _MOST_PRODUCTS:
        return jt.matmul(x, y)
    stacks = (v.reshape([count, *v.shape[-2:]]) for v in (x, y))
    return _Products.apply(*stacks).reshape([*batch, x.shape[-2], y.shape[-1]])


#: Above this the Python loop below costs more than Jittor's own batched product.
_MOST_PRODUCTS = 128


class _Products(jt.Function):
    """``(B, n, k) @ (B, k, m)`` one by one: on the CPU only plain products reach oneDNN."""

    def execute(self, x: Var, y: Var) -> Var:
        self.x, self.y = x, y
        return jt.stack([jt.matmul(x[i], y[i]) for i in range(x.shape[0])], 0)

    def grad(self, gradient: Var) -> tuple[Var, Var]:
        x, y, count = self.x, self.y, self.x.shape[0]
        by_rows, by_columns = jt.transpose(y, [0, 2, 1]), jt.transpose(x, [0, 2, 1])
        dx = jt.stack([jt.matmul(gradient[i], by_rows[i]) for i in range(count)], 0)
        dy = jt.stack([jt.matmul(by_columns[i], gradient[i]) for i in range(count)], 0)
        return dx, dy


def linear(x: Var, w: Var, b: Var | None = None) -> Var:
    rows = x if x.ndim == 2 else x.reshape([-1 if x.numel() else 0, x.shape[-1]])
    y = jt.nn.matmul_transpose(rows, w)
    y = y if b is None else y + b
    return y if x.ndim == 2 else y.reshape([*x.shape[:-1], w.shape[0]])


def conv2d(
    x: Var,
    w: Var,
    b: Var | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Var:
    return _conv2d(x, w, b, _pair(stride), _pair(padding), _pair(dilation), groups)


def max_pool2d(
    x: Var,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> Var:
    return _max_pool2d(x, kernel, stride, padding, ceil_mode)


def avg_pool2d(
    x: Var,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Var:
    kernel, padding = _pair(kernel), _pair(padding)
    stride = kernel if stride is None else _pair(stride)
    rows, columns = (
        _average(x.shape[a + 2], kernel[a], stride[a], padding[a], ceil_mode, count_include_pad)
        for a in (0, 1)
    )
    return resample(x, rows, columns)


def _average(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, count_padding: bool
) -> tuple[np.ndarray, np.ndarray]:
    reach = size + 2 * padding - kernel
    count = (-(-reach // stride) if ceil_mode else reach // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        # Such a window would start in the padding behind the end.
        count -= 1
    if count < 1:
        raise ValueError(
            f"Invalid value for `kernel`. Expected at most the padded size {size + 2 * padding}. "
            f"Received {kernel}."
        )
    starts = np.arange(count) * stride - padding
    low, high = np.maximum(starts, 0), np.minimum(starts + kernel, size)
    counts = np.minimum(starts + kernel, size + padding) - starts if count_padding else high - low
    return window_taps(low, high, counts)


def adaptive_avg_pool2d(x: Var, size: Pair) -> Var:
    size = _pair(size)
    if size == (1, 1):
        return mean(x, (2, 3), keepdims=True)
    taps = []
    for length, cells in zip(x.shape[2:], size):
        cell = np.arange(cells)
        low, high = cell * length // cells, -(-(cell + 1) * length // cells)
        taps.append(window_taps(low, high, high - low))
    return resample(x, *taps)


def interpolate(
    x: Var, size: tuple[int, int], mode: str = "nearest", align_corners: bool = False
) -> Var:
    if mode not in ("nearest", "bilinear"):
        raise ValueError(
            f"Invalid value for `mode`. Expected 'nearest' or 'bilinear'. Received {mode!r}."
        )
    if mode == "nearest":
        taps = [nearest_taps(length, cells) for length, cells in zip(x.shape[2:], size)]
    else:
        taps = [
            bilinear_taps(length, cells, align_corners) for length, cells in zip(x.shape[2:], size)
        ]
    return resample(x, *taps)


def batch_norm(
    x: Var,
    mean: Var,
    var: Var,
    weight: Var | None = None,
    bias: Var | None = None,
    eps: float = 1e-5,
) -> Var:
    if x.ndim == 4:
        return batch_norm_inference(x, mean, var, weight, bias, eps)
    image = x.reshape([x.shape[0], x.shape[1], int(np.prod(x.shape[2:])), 1])
    return batch_norm_inference(image, mean, var, weight, bias, eps).reshape(x.shape)


def _standardised(x: Var, eps: float) -> Var:
    """Zero mean and unit variance along the last axis, in two passes."""
    deviation = x - mean(x, -1, keepdims=True)
    variance = mean(deviation * deviation, -1, keepdims=True)
    return deviation / jt.sqrt(variance + constant(eps, x))


def group_norm(
    x: Var,
    groups: int,
    weight: Var | None = None,
    bias: Var | None = None,
    eps: float = 1e-5,
) -> Var:
    n, channels = x.shape[0], x.shape[1]
    if channels % groups:
        raise ValueError(
            f"Invalid value for `groups`. Expected a divisor of {channels}. Received {groups}."
        )
    if x.numel() == 0:
        return x
    y = _standardised(x.reshape([n, groups, -1]), eps).reshape(x.shape)
    if x.ndim == 4:
        return affine(y, weight, bias)
    column = [1, channels] + [1] * (x.ndim - 2)
    y = y if weight is None else y * weight.reshape(column)
    return y if bias is None else y + bias.reshape(column)


def layer_norm(
    x: Var, weight: Var | None = None, bias: Var | None = None, eps: float = 1e-5
) -> Var:
    if x.numel() == 0:
        return x
    count = 1 if weight is None else weight.ndim
    if count == 1:
        y = _standardised(x, eps)
    else:
        y = _standardised(x.reshape([*x.shape[:-count], -1]), eps).reshape(x.shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def dropout(x: Var, mask: Var, p: float) -> Var:
    return x * jt.cast(mask, dtype_of(x)) * constant(1 / (1 - p), x)


def scaled_dot_product_attention(
    query: Var,
    key: Var,
    value: Var,
    mask: Var | None = None,
    dropout: float = 0.0,
) -> Var:
    result = [*query.shape[:-1], value.shape[-1]]
    if key.numel() == 0 or 0 in result:
        return jt.zeros(result, query.dtype)
    scale = constant(query.shape[-1] ** -0.5, query)
    scores = matmul(query * scale, jt.transpose(key, [0, 1, 3, 2]))  # (N, heads, L, S)
    weights = softmax(scores if mask is None else scores + mask, -1)
    if dropout:
        weights = jt.nn.dropout(weights, dropout, is_train=True)
    return matmul(weights, value)


def box_iou(a: Var, b: Var) -> Var:
    return composite.box_iou(a, b)


def _composite() -> bool:
    return os.environ.get("UNIDET_KERNELS") == "composite"


def nms(boxes: Var, scores: Var, iou_threshold: float) -> Var:
    if _composite():
        return composite.nms(boxes, scores, iou_threshold)
    return var_of(kernels.nms(boxes.numpy(), scores.numpy(), iou_threshold))


def batched_nms(boxes: Var, scores: Var, classes: Var, iou_threshold: float) -> Var:
    if _composite():
        return composite.batched_nms(boxes, scores, classes, iou_threshold)
    arrays = boxes.numpy(), scores.numpy(), classes.numpy()
    return var_of(kernels.batched_nms(*arrays, iou_threshold))


def soft_nms(
    boxes: Var,
    scores: Var,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[Var, Var]:
    if _composite():
        return composite.soft_nms(boxes, scores, iou_threshold, sigma, score_threshold, method)
    arrays = boxes.numpy(), scores.numpy()
    kept, left = kernels.soft_nms(*arrays, iou_threshold, sigma, score_threshold, method)
    return var_of(kept), var_of(left)
