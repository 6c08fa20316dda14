"""Convolution on Jittor: 1x1 kernels are plain matrix products, all others as Jittor has them.

Around each convolution Jittor lets oneDNN bring the maps into a blocked layout and back. For 1x1
kernels, half of a ResNet-50, that costs more than the work itself, while a map in rows is already
the matrix that the product wants. So these call oneDNN's product by its address.
"""

from __future__ import annotations

import ctypes
import functools
import re
from pathlib import Path
from typing import Any

from unidet.backends.jittor import jt
from unidet.backends.jittor.bias import add_bias

Var = Any
Pair = tuple[int, int]

_HEADER = r"""
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace unidet_conv {

// dnnl_sgemm; matrices lie row by row.
typedef int (*Product)(char, char, int64_t, int64_t, int64_t, float, const float*, int64_t,
                       const float*, int64_t, float, float*, int64_t);

inline void multiply(double address, char left, char right, int64_t rows, int64_t columns,
                     int64_t inner, const float* a, int64_t lda, const float* b, int64_t ldb,
                     bool add, float* c, int64_t ldc) {
    const Product product = reinterpret_cast<Product>(uintptr_t(address));
    if (product(left, right, rows, columns, inner, 1, a, lda, b, ldb, add ? 1 : 0, c, ldc))
        throw std::runtime_error("oneDNN refused a matrix product");
}

// Where the strided pixels of one image lie.
struct Grid {
    int64_t channels, height, width, rows, columns, down, across;
    bool dense() const { return down == 1 && across == 1; }
    int64_t area() const { return rows * columns; }

    template <class Body>
    void each(Body body) const {
        #pragma omp parallel for
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++)
                    body((c * rows + i) * columns + j,
                         (c * height + i * down) * width + j * across);
    }

    const float* pack(const float* image, std::vector<float>& space) const {
        if (dense()) return image;
        space.resize(channels * area());
        float* packed = space.data();
        each([=](int64_t to, int64_t from) { packed[to] = image[from]; });
        return packed;
    }
};

}  // namespace unidet_conv
"""


def _grid(image: str, map_: str) -> str:
    return f"""
const int64_t count = {image}_shape0, outputs = {map_}_shape1;
const unidet_conv::Grid grid = {{{image}_shape1, {image}_shape2, {image}_shape3, {map_}_shape2,
                                {map_}_shape3, int64_t(data["down"]), int64_t(data["across"])}};
const int64_t inputs = grid.channels, area = grid.area();
const int64_t whole = inputs * grid.height * grid.width;
std::vector<float> space;
"""


_FORWARD = (
    _grid("in0", "out0")
    + r"""
for (int64_t n = 0; n < count; n++)
    unidet_conv::multiply(data["address"], 'N', 'N', outputs, area, inputs, in1_p, inputs,
                          grid.pack(in0_p + n * whole, space), area, false,
                          out0_p + n * outputs * area, area);
"""
)

_BACKWARD_IMAGE = (
    _grid("out0", "in0")
    + r"""
for (int64_t n = 0; n < count; n++) {
    float* image = out0_p + n * whole;
    float* packed = image;
    if (!grid.dense()) {
        space.resize(inputs * area);
        packed = space.data();
    }
    unidet_conv::multiply(data["address"], 'T', 'N', inputs, area, outputs, in1_p, inputs,
                          in0_p + n * outputs * area, area, false, packed, area);
    if (!grid.dense()) {
        std::fill(image, image + whole, 0.0f);
        grid.each([=](int64_t from, int64_t to) { image[to] = packed[from]; });
    }
}
"""
)

_BACKWARD_WEIGHT = (
    _grid("in0", "in1")
    + r"""
for (int64_t n = 0; n < count; n++)
    unidet_conv::multiply(data["address"], 'N', 'T', outputs, inputs, area,
                          in1_p + n * outputs * area, area,
                          grid.pack(in0_p + n * whole, space), area, n > 0, out0_p, inputs);
"""
)


class _Pointwise(jt.Function):
    """``(N, C, H, W)`` and ``(O, C, 1, 1)`` to ``(N, O, H', W')``."""

    def execute(self, x: Var, w: Var, stride: Pair, address: int) -> Var:
        self.x, self.w = x, w
        self.data = {
            "address": float(address),  # exact: user space has fewer than 53 bits
            "down": float(stride[0]),
            "across": float(stride[1]),
        }
        n, _, height, width = x.shape
        shape = [n, w.shape[0], -(-height // stride[0]), -(-width // stride[1])]
        return self._code(shape, [x, w], _FORWARD)

    def grad(self, gradient: Var) -> tuple[Var, Var, None, None]:
        # Two kernels, since Jittor never computes what nobody asks for.
        dx = self._code(self.x.shape, [gradient, self.w], _BACKWARD_IMAGE)
        dw = self._code(self.w.shape, [self.x, gradient], _BACKWARD_WEIGHT)
        return dx, dw, None, None

    def _code(self, shape: list[int], inputs: list[Var], source: str) -> Var:
        return jt.code(shape, "float32", inputs, cpu_header=_HEADER, cpu_src=source, data=self.data)


def conv2d(
    x: Var, w: Var, b: Var | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Var:
    """See :func:`unidet.backends.ops.conv2d`."""
    address = _product() if _is_pointwise(x, w, padding, groups) else None
    if address is None:
        y = jt.nn.conv2d(x, w, None, stride, padding, dilation, groups)
    else:
        y = _Pointwise.apply(x, w, stride, address)
    return y if b is None else add_bias(y, b)


def _is_pointwise(x: Var, w: Var, padding: Pair, groups: int) -> bool:
    return (
        tuple(w.shape[2:]) == (1, 1)
        and tuple(padding) == (0, 0)
        and groups == 1
        and x.shape[1] == w.shape[1]
        and x.dtype == w.dtype == "float32"
        and x.numel() > 0
        and not jt.flags.use_cuda
    )


@functools.cache
def _product() -> int | None:
    """Address of ``dnnl_sgemm`` in the oneDNN that Jittor has loaded, or None without one."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return None
    loaded = re.search(r"/.*/lib(?:mkldnn|dnnl)\.so.*$", maps.read_text(), re.MULTILINE)
    if loaded is None:
        return None
    try:
        function = ctypes.CDLL(loaded.group()).dnnl_sgemm
    except (OSError, AttributeError):
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
