"""Max pooling on Jittor with torch's rules for any window, and a CPU kernel with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends.jittor import jt

_HEADER = r"""
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace unidet_pool {

// One row of one offset inside the window, over all columns at once. STEP 0: known at run time.
template <int STEP>
inline void compare(const float* __restrict__ x, int64_t first, int64_t lo, int64_t hi,
                    int64_t stride, float* __restrict__ value, int* __restrict__ where) {
    const int64_t step = STEP ? STEP : stride;
    for (int64_t c = lo; c < hi; c++) {
        const int64_t at = first + c * step;
        const float other = x[at], old = value[c];
        // NaN wins, and the last one at that, as in torch.
        const bool take = (other > old) | (other != other);
        value[c] = take ? other : old;
        where[c] = take ? int(at) : where[c];
    }
}

}  // namespace unidet_pool
"""

_FORWARD = r"""
const int64_t height = in0_shape2, width = in0_shape3, rows = out0_shape2, columns = out0_shape3;
const int64_t planes = int64_t(in0_shape0) * in0_shape1;
const int64_t kh = data["kh"], kw = data["kw"], sy = data["sy"], sx = data["sx"];
const int64_t py = data["py"], px = data["px"];
auto compare = sx == 1 ? unidet_pool::compare<1>
             : sx == 2 ? unidet_pool::compare<2> : unidet_pool::compare<0>;
#pragma omp parallel for
for (int64_t p = 0; p < planes; p++) {
    const float* x = in0_p + p * height * width;
    for (int64_t r = 0; r < rows; r++) {
        float* value = out0_p + (p * rows + r) * columns;
        int* where = out1_p + (p * rows + r) * columns;
        const int64_t top = std::max<int64_t>(r * sy - py, 0);
        const int64_t bottom = std::min<int64_t>(r * sy - py + kh, height);
        for (int64_t c = 0; c < columns; c++) {
            value[c] = -std::numeric_limits<float>::infinity();
            where[c] = top * width + std::max<int64_t>(c * sx - px, 0);
        }
        for (int64_t i = top; i < bottom; i++)
            for (int64_t j = 0; j < kw; j++) {
                // Columns whose window has this offset inside the image.
                const int64_t shift = j - px, room = width - 1 - shift;
                const int64_t lo = shift < 0 ? (-shift + sx - 1) / sx : 0;
                const int64_t hi = room < 0 ? 0 : std::min<int64_t>(columns, room / sx + 1);
                compare(x, i * width + shift, lo, hi, sx, value, where);
            }
    }
}
"""

_BACKWARD = r"""
const int64_t size = int64_t(out0_shape2) * out0_shape3, cells = int64_t(in0_shape2) * in0_shape3;
const int64_t planes = int64_t(in0_shape0) * in0_shape1;
#pragma omp parallel for
for (int64_t p = 0; p < planes; p++) {
    float* dx = out0_p + p * size;
    std::fill(dx, dx + size, 0.0f);
    for (int64_t k = 0; k < cells; k++) dx[in1_p[p * cells + k]] += in0_p[p * cells + k];
}
"""


class _MaxPool(jt.Function):
    def execute(self, x: Any, size: tuple[int, int], options: dict[str, float]) -> Any:
        shape = [x.shape[0], x.shape[1], *size]
        self.shape = x.shape
        result, self.where = jt.code(
            [shape, shape],
            ["float32", "int32"],
            [x],
            cpu_header=_HEADER,
            cpu_src=_FORWARD,
            data=options,
        )
        return result

    def grad(self, gradient: Any) -> tuple[Any, None, None]:
        inputs = [gradient, self.where]
        dx = jt.code(self.shape, "float32", inputs, cpu_header=_HEADER, cpu_src=_BACKWARD)
        return dx, None, None


def max_pool2d(
    x: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
) -> Any:
    """Largest value of each window of ``(N, C, H, W)``; the padding never wins.

    Of equal values the first in row-major order takes the gradient.

    Args:
        kernel_size: size of the window, one number or ``(y, x)``.
        stride: step of the window; the kernel size by default.
        padding: cells added on each side, at most half the kernel size.
        ceil_mode: keeps a last window that hangs over the far edge.

    Raises:
        ValueError: the padding is too large, or the image too small for one window.
    """
    kernel, pads = _pair(kernel_size), _pair(padding)
    steps = kernel if stride is None else _pair(stride)
    if any(2 * pad > extent for pad, extent in zip(pads, kernel)):
        raise ValueError(
            f"Invalid value for `padding`. Expected at most half of kernel_size={kernel}. "
            f"Received {pads}."
        )
    size = tuple(
        _extent(length, *window, ceil_mode)
        for length, window in zip(x.shape[2:], zip(kernel, steps, pads))
    )
    if min(size) < 1:
        raise ValueError(
            f"Invalid value for `x`. Expected images of at least one window {kernel} with padding "
            f"{pads}. Received shape {tuple(x.shape)}."
        )
    if x.dtype != "float32" or jt.flags.use_cuda or x.numel() == 0:
        return _composite(x, kernel, steps, pads, size)
    names = ("kh", "kw", "sy", "sx", "py", "px")
    return _MaxPool.apply(x, size, dict(zip(names, map(float, (*kernel, *steps, *pads)))))


def _extent(length: int, kernel: int, stride: int, pad: int, ceil_mode: bool) -> int:
    span = length + 2 * pad - kernel
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    # A window that starts in the far padding has nothing to look at.
    return count - 1 if ceil_mode and (count - 1) * stride >= length + pad else count


def _composite(
    x: Any,
    kernel: tuple[int, int],
    steps: tuple[int, int],
    pads: tuple[int, int],
    size: tuple[int, ...],
) -> Any:
    """The same by gathering every window, for other dtypes and devices."""
    n, c, height, width = tuple(x.shape)
    if x.numel() == 0:
        return jt.zeros([n, c, *size], x.dtype)
    y = np.arange(size[0])[:, None] * steps[0] - pads[0] + np.arange(kernel[0])
    z = np.arange(size[1])[:, None] * steps[1] - pads[1] + np.arange(kernel[1])
    inside_y, inside_x = (y >= 0) & (y < height), (z >= 0) & (z < width)
    inside = inside_y[:, None, :, None] & inside_x[None, :, None, :]
    index = y.clip(0, height - 1)[:, None, :, None] * width + z.clip(0, width - 1)[None, :, None, :]
    area = kernel[0] * kernel[1]
    windows = x.reshape(n, c, -1)[:, :, jt.array(index.reshape(-1).astype(np.int32))]
    windows = windows.reshape(n, c, *size, area)
    windows = jt.ternary(
        jt.array(inside.reshape(*size, area)).broadcast(windows.shape),
        windows,
        jt.full_like(windows, float("-inf")),
    )
    best = windows.detach().argmax(-1, keepdims=True)[0]
    return windows.gather(-1, best).reshape(n, c, *size)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, (int, np.integer)) else tuple(value)
