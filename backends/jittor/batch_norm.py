"""Batch normalization on Jittor: two-pass statistics, and kernels of our own on the CPU.

Jittor's layer takes the variance as E[x^2] - E[x]^2, which is lost for large means, and composes
the rest of plain operations. The kernels below work channel by channel, so that a channel stays in
the cache between the passes. A ReLU that follows is taken into the same kernels
(:func:`relu`): the result carries a recipe for its rectified self, and since Jittor computes lazily
the plain result is never computed unless something else asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor import ops_reductions as reductions
from unidet.backends.jittor.module import as_var
from unidet.backends.jittor.sums import SUMS_HEADER
from unidet.backends.parallel import batch_split, ranks

#: Attribute of a tensor that holds what makes its rectified self.
RECIPE = "unidet_rectified"

_HEADER = (
    SUMS_HEADER
    + r"""
#include <cmath>

namespace unidet_bn {

using unidet_sums::total;

template <class Body>
inline void each(int64_t n, int64_t c, int64_t channels, int64_t area, Body body) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t base = (i * channels + c) * area;
        for (int64_t j = 0; j < area; j++) body(base + j);
    }
}

template <bool RELU>
void forward(const float* __restrict__ x, const float* w, const float* b, const float* mean,
             const float* var, float* __restrict__ y, int64_t n, int64_t channels, int64_t area,
             double eps) {
    #pragma omp parallel for
    for (int64_t c = 0; c < channels; c++) {
        const float m = mean[c], scale = w[c] / std::sqrt(var[c] + eps), shift = b[c];
        each(n, c, channels, area, [=](int64_t k) {
            const float value = (x[k] - m) * scale + shift;
            y[k] = RELU && value < 0 ? 0.0f : value;
        });
    }
}

template <bool RELU, bool FIXED>
void backward(const float* __restrict__ x, const float* w, const float* b, const float* mean,
              const float* var, const float* __restrict__ dy, float* __restrict__ dx, float* dw,
              float* db, int64_t n, int64_t channels, int64_t area, double eps) {
    #pragma omp parallel for
    for (int64_t c = 0; c < channels; c++) {
        const float m = mean[c], shift = b[c];
        const double inverse = 1 / std::sqrt(var[c] + eps);
        const float scale = w[c] * inverse;
        // By value, and with the load outside the choice: both are what lets the loops vectorize.
        auto gradient = [=](int64_t k) {
            const float g = dy[k], rectified = (x[k] - m) * scale + shift <= 0 ? 0.0f : g;
            return RELU ? rectified : g;
        };
        const double sum = total(n, c, channels, area, gradient);
        const double product = total(n, c, channels, area, [=](int64_t k) {
            return gradient(k) * (x[k] - m);
        });
        db[c] = sum;
        dw[c] = product * inverse;
        const double count = double(n) * area;
        const float offset = FIXED ? 0 : sum / count;
        const float slope = FIXED ? 0 : product * inverse * inverse / count;
        each(n, c, channels, area, [=](int64_t k) {
            dx[k] = scale * (gradient(k) - offset - (x[k] - m) * slope);
        });
    }
}

}  // namespace unidet_bn
"""
)

_SIZES = "const int64_t n = in0_shape0, c = in0_shape1, area = int64_t(in0_shape2) * in0_shape3;"

_STATISTICS = (
    _SIZES
    + r"""
const double count = double(n) * area;
#pragma omp parallel for
for (int64_t i = 0; i < c; i++) {
    auto value = [&](int64_t k) { return in0_p[k]; };
    const double mean = unidet_sums::total(n, i, c, area, value) / count;
    const float m = mean;
    // The rounding of the mean to float is taken out again.
    const double rest = mean - m;
    const double squares = unidet_sums::total(n, i, c, area, [&](int64_t k) {
        const float d = in0_p[k] - m;
        return d * d;
    });
    out0_p[i] = m;
    out1_p[i] = squares / count - rest * rest;
}
"""
)

_FORWARD = (
    _SIZES
    + r"""
auto run = data["relu"] ? unidet_bn::forward<true> : unidet_bn::forward<false>;
run(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, n, c, area, data["eps"]);
"""
)

_BACKWARD = (
    _SIZES
    + r"""
auto run = data["relu"]
    ? (data["fixed"] ? unidet_bn::backward<true, true> : unidet_bn::backward<true, false>)
    : (data["fixed"] ? unidet_bn::backward<false, true> : unidet_bn::backward<false, false>);
run(in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, out0_p, out1_p, out2_p, n, c, area, data["eps"]);
"""
)


class _Normalize(jt.Function):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, rectified where asked."""

    def execute(
        self,
        x: Any,
        weight: Any,
        bias: Any,
        mean: Any,
        variance: Any,
        options: dict[str, float],
    ) -> Any:
        self.inputs, self.options = [x, weight, bias, mean, variance], options
        return jt.code(
            x.shape, "float32", self.inputs, cpu_header=_HEADER, cpu_src=_FORWARD, data=options
        )

    def grad(self, gradient: Any) -> tuple[Any, ...]:
        count = self.inputs[1].shape
        dx, dw, db = jt.code(
            [gradient.shape, count, count],
            ["float32"] * 3,
            [*self.inputs, gradient],
            cpu_header=_HEADER,
            cpu_src=_BACKWARD,
            data=self.options,
        )
        return dx, dw, db, None, None, None


def batch_norm_training(x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """Normalizes by the statistics of the batch.

    Args:
        x: ``(N, C, H, W)``.
        weight: ``(C,)`` or None.
        bias: ``(C,)`` or None.
        eps: added to the variance.

    Returns:
        The result, and the mean and the biased variance of each channel, without gradient.

    Raises:
        ValueError: a channel has fewer than two values.
    """
    count = x.shape[0] * x.shape[2] * x.shape[3]
    if count < 2:
        raise ValueError(
            "Invalid value for `x`. Expected more than one value per channel in training. "
            f"Received shape {tuple(x.shape)}."
        )
    if not _has_kernel(x):
        return _composite_training(x, weight, bias, eps)
    channels = [x.shape[1]]
    mean, variance = jt.code(
        [channels, channels],
        ["float32", "float32"],
        [x.detach()],
        cpu_header=_HEADER,
        cpu_src=_STATISTICS,
    )
    mean.stop_grad()
    variance.stop_grad()
    return _normalize(x, weight, bias, mean, variance, eps, fixed=False), mean, variance


def batch_norm_synchronised(
    x: Any, weight: Any, bias: Any, eps: float
) -> tuple[Any, Any, Any, int]:
    """As :func:`batch_norm_training`, by the statistics of the images of all ranks.

    Returns:
        Also how many values a channel has.
    """
    counts = batch_split.weight()
    count = int(ranks.world().add(x.shape[0] * x.shape[2] * x.shape[3] * counts))
    # As data, or each size of picture would compile kernels of its own.
    factors = as_var(np.array([counts, counts / count, 1 / count], np.float32))
    factors.stop_grad()
    used, share = factors[0], factors[1]
    mean = (reductions.sum(x, (0, 2, 3)) * share).mpi_all_reduce("add")
    centred = x - _column(mean)
    squares = reductions.sum(centred * centred, (0, 2, 3)) * used
    variance = squares.mpi_all_reduce("add") * factors[2]
    result = _affine(centred / jt.sqrt(_column(variance) + eps), weight, bias)
    return result, mean.detach(), variance.detach(), count


def batch_norm_inference(
    x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float
) -> Any:
    """Normalizes by given statistics, which are constants; weight and bias may be trained."""
    if not _has_kernel(x):
        scale = 1 / jt.sqrt(variance + eps)
        return _affine((x - _column(mean)) * _column(scale), weight, bias)
    return _normalize(x, weight, bias, mean.detach(), variance.detach(), eps, fixed=True)


def relu(x: Any) -> Any:
    """``max(x, 0)``; right after a batch normalization both are one kernel."""
    recipe: Callable[[], Any] | None = getattr(x, RECIPE, None)
    return jt.nn.relu(x) if recipe is None else recipe()


def affine(x: Any, weight: Any, bias: Any) -> Any:
    """``x * weight + bias`` along axis 1 of ``(N, C, H, W)``; either may be None.

    As a kernel, which composed operations would be compiled anew for: once for each choice of axes
    that happen to have length 1.
    """
    if not _has_kernel(x) or weight is bias is None:
        return _affine(x, weight, bias)
    count = x.shape[1]
    mean = jt.array(np.zeros(count, np.float32)).stop_grad()
    variance = jt.array(np.ones(count, np.float32)).stop_grad()
    return _normalize(x, weight, bias, mean, variance, 0.0, fixed=True)


def _normalize(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, eps: float, *, fixed: bool
) -> Any:
    if weight is None:
        weight = jt.ones_like(mean).stop_grad()
    if bias is None:
        bias = jt.zeros_like(mean).stop_grad()

    def result(rectified: bool) -> Any:
        options = {"eps": float(eps), "relu": float(rectified), "fixed": float(fixed)}
        return _Normalize.apply(x, weight, bias, mean, variance, options)

    plain = result(False)
    setattr(plain, RECIPE, lambda: result(True))
    return plain


def _has_kernel(x: Any) -> bool:
    return x.dtype == "float32" and not jt.flags.use_cuda and x.numel() > 0


def _composite_training(x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    mean = x.mean((0, 2, 3))
    centred = x - _column(mean)
    variance = (centred * centred).mean((0, 2, 3))
    result = _affine(centred / jt.sqrt(_column(variance) + eps), weight, bias)
    return result, mean.detach(), variance.detach()


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        x = x * _column(weight)
    return x if bias is None else x + _column(bias)


def _column(values: Any) -> Any:
    return values.reshape(1, -1, 1, 1)
