"""Weighted means along both axes of an image: what pooling by mean and interpolation are.

Each row of the result is a sum over a few rows of the input ("taps") with given weights, and so is
each column. The taps are data, so one kernel serves every size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.host import dtype_of, var_of

Var = Any
#: ``(n, taps)`` positions and ``(n, taps)`` weights of ``n`` results; unused taps weigh 0.
Taps = tuple[np.ndarray, np.ndarray]

_SIZES = r"""
const int64_t planes = int64_t({big}_shape0) * {big}_shape1;
const int64_t height = {big}_shape2, width = {big}_shape3;
const int64_t rows = {small}_shape2, columns = {small}_shape3;
const int64_t tall = in1_shape1, wide = in3_shape1;
"""

_FORWARD = (
    _SIZES.format(big="in0", small="out0")
    + r"""
#pragma omp parallel for
for (int64_t p = 0; p < planes; p++) {
    const float* x = in0_p + p * height * width;
    float* y = out0_p + p * rows * columns;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            float total = 0;
            for (int64_t a = 0; a < tall; a++) {
                const float* line = x + in1_p[r * tall + a] * width;
                float part = 0;
                for (int64_t b = 0; b < wide; b++)
                    part += in4_p[c * wide + b] * line[in3_p[c * wide + b]];
                total += in2_p[r * tall + a] * part;
            }
            y[r * columns + c] = total;
        }
}
"""
)

_BACKWARD = (
    _SIZES.format(big="out0", small="in0")
    + r"""
#pragma omp parallel for
for (int64_t p = 0; p < planes; p++) {
    float* dx = out0_p + p * height * width;
    const float* dy = in0_p + p * rows * columns;
    for (int64_t k = 0; k < height * width; k++) dx[k] = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t a = 0; a < tall; a++) {
            float* line = dx + in1_p[r * tall + a] * width;
            const float weight = in2_p[r * tall + a];
            for (int64_t c = 0; c < columns; c++)
                for (int64_t b = 0; b < wide; b++)
                    line[in3_p[c * wide + b]] +=
                        weight * in4_p[c * wide + b] * dy[r * columns + c];
        }
}
"""
)

_HEADER = "#include <cstdint>\n"


class _Resample(jt.Function):
    def execute(self, x: Var, taps: list[Var]) -> Var:
        self.shape, self.taps = list(x.shape), taps
        size = [*x.shape[:2], taps[0].shape[0], taps[2].shape[0]]
        return jt.code(size, "float32", [x, *taps], cpu_header=_HEADER, cpu_src=_FORWARD)

    def grad(self, gradient: Var) -> tuple[Var, None]:
        inputs = [gradient, *self.taps]
        return (
            jt.code(self.shape, "float32", inputs, cpu_header=_HEADER, cpu_src=_BACKWARD),
            None,
        )


def resample(x: Var, rows: Taps, columns: Taps) -> Var:
    """``(N, C, H, W)`` to ``(N, C, len(rows), len(columns))`` by the given taps."""
    if x.numel() == 0 or not (len(rows[0]) and len(columns[0])):
        return jt.zeros([*x.shape[:2], len(rows[0]), len(columns[0])], x.dtype)
    if dtype_of(x) != "float32" or jt.flags.use_cuda:
        return _with_matrices(x, rows, columns)
    taps = []
    for positions, weights in (rows, columns):
        taps += [var_of(positions.astype(np.int32)), var_of(weights.astype(np.float32))]
    return _Resample.apply(x, [tap.stop_grad() for tap in taps])


def _with_matrices(x: Var, rows: Taps, columns: Taps) -> Var:
    """The same as two products, for other devices and dtypes."""
    n, c, height, width = tuple(x.shape)
    right = var_of(_matrix(columns, width).T.astype(dtype_of(x)))
    left = var_of(_matrix(rows, height).T.astype(dtype_of(x)))
    y = jt.matmul(x.reshape(n * c * height, width), right)
    y = jt.transpose(y.reshape(n * c, height, -1), [0, 2, 1])
    y = jt.matmul(y.reshape(-1, height), left)
    return jt.transpose(y.reshape(n, c, right.shape[1], left.shape[1]), [0, 1, 3, 2])


def _matrix(taps: Taps, length: int) -> np.ndarray:
    positions, weights = taps
    matrix = np.zeros((len(positions), length))
    np.add.at(matrix, (np.arange(len(positions))[:, None], positions), weights)
    return matrix


def nearest_taps(size: int, target: int) -> Taps:
    """``floor(i * size / target)``, the ratio rounded to float32 as torch rounds it."""
    scale = np.float32(size) / np.float32(target)
    positions = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(positions, size - 1)[:, None], np.ones((target, 1))


def bilinear_taps(size: int, target: int, align_corners: bool) -> Taps:
    """Two neighbours of each position by torch's rule."""
    place = np.arange(target, dtype=np.float64)
    if align_corners:
        place = place * ((size - 1) / (target - 1) if target > 1 else 0)
    else:
        place = np.maximum((place + 0.5) * (size / target) - 0.5, 0)
    low = np.minimum(np.floor(place).astype(np.int64), size - 1)
    share = place - low
    positions = np.stack([low, np.minimum(low + 1, size - 1)], 1)
    return positions, np.stack([1 - share, share], 1)


def window_taps(starts: np.ndarray, stops: np.ndarray, counts: np.ndarray) -> Taps:
    """Sums over ``[start, stop)`` divided by ``counts``, for each result."""
    length = int((stops - starts).max(initial=1))
    positions = starts[:, None] + np.arange(length)
    inside = positions < stops[:, None]
    return np.where(inside, positions, starts[:, None]), inside / counts[:, None]
