"""The bias of a convolution on Jittor, and the ReLU that may follow it, as kernels of our own.

Composed of Jittor's operations, an addition along a broadcast axis is compiled anew for each choice
of axes that happen to have length 1, and so is all that is fused with it: a map one cell wide,
or a last batch of one image, made a run compile in its middle.
"""

from __future__ import annotations

from typing import Any

from unidet.backends.jittor import jt
from unidet.backends.jittor.batch_norm import RECIPE
from unidet.backends.jittor.sums import SUMS_HEADER

Var = Any

_HEADER = (
    SUMS_HEADER
    + r"""
namespace unidet_bias {

template <bool RELU>
void forward(const float* __restrict__ x, const float* b, float* __restrict__ y, int64_t n,
             int64_t channels, int64_t area) {
    #pragma omp parallel for
    for (int64_t plane = 0; plane < n * channels; plane++) {
        const float shift = b[plane % channels];
        const float* from = x + plane * area;
        float* to = y + plane * area;
        for (int64_t j = 0; j < area; j++) {
            const float value = from[j] + shift;
            to[j] = RELU && value <= 0 ? 0.0f : value;
        }
    }
}

// dx stays unwritten without RELU, where it is the gradient itself.
template <bool RELU>
void backward(const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dx,
              float* db, int64_t n, int64_t channels, int64_t area) {
    #pragma omp parallel for
    for (int64_t c = 0; c < channels; c++) {
        db[c] = unidet_sums::total(n, c, channels, area, [=](int64_t k) {
            const float g = dy[k], passed = RELU && y[k] <= 0 ? 0.0f : g;
            if (RELU) dx[k] = passed;
            return passed;
        });
    }
}

}  // namespace unidet_bias
"""
)

_SIZES = "const int64_t n = in0_shape0, c = in0_shape1, area = int64_t(in0_shape2) * in0_shape3;"

_FORWARD = (
    _SIZES
    + r"""
auto run = data["relu"] ? unidet_bias::forward<true> : unidet_bias::forward<false>;
run(in0_p, in1_p, out0_p, n, c, area);
"""
)
_BACKWARD = _SIZES + "unidet_bias::backward<false>(nullptr, in0_p, nullptr, out0_p, n, c, area);"
_BACKWARD_RELU = _SIZES + "unidet_bias::backward<true>(in1_p, in0_p, out0_p, out1_p, n, c, area);"


class _AddBias(jt.Function):
    """``x + b`` along axis 1, rectified where asked."""

    def execute(self, x: Var, b: Var, rectified: bool) -> Var:
        self.shapes = [list(x.shape), list(b.shape)]
        data = {"relu": float(rectified)}
        y = jt.code(x.shape, "float32", [x, b], cpu_header=_HEADER, cpu_src=_FORWARD, data=data)
        self.y = y if rectified else None
        return y

    def grad(self, gradient: Var) -> tuple[Var, Var, None]:
        if self.y is None:
            db = jt.code(
                self.shapes[1], "float32", [gradient], cpu_header=_HEADER, cpu_src=_BACKWARD
            )
            return gradient, db, None
        dx, db = jt.code(
            self.shapes,
            ["float32"] * 2,
            [gradient, self.y],
            cpu_header=_HEADER,
            cpu_src=_BACKWARD_RELU,
        )
        return dx, db, None


def add_bias(x: Var, b: Var) -> Var:
    """``(N, C, H, W)`` plus ``(C,)``; a ReLU right after it becomes part of the same kernel."""
    if x.dtype != "float32" or b.dtype != "float32" or jt.flags.use_cuda or not x.numel():
        return x + b.broadcast(x, [0, 2, 3])
    plain = _AddBias.apply(x, b, False)
    setattr(plain, RECIPE, lambda: _AddBias.apply(x, b, True))
    return plain
