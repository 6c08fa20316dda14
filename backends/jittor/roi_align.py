"""RoIAlign on Jittor: the shared C++ kernel inside Jittor's graph, so that nothing waits for it.

The kernel's address is handed to ``jt.code``, which calls it when the graph is computed. Boxes and
numbers of images are looked at on the host; passed as NumPy arrays they cost no synchronisation.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends import kernels
from unidet.backends.jittor import jt, roi_align_cuda
from unidet.backends.jittor.host import dtype_of, var_of
from unidet.backends.kernels import composite_roi
from unidet.backends.kernels import roi_align as roi_kernels

Var = Any


def roi_align(
    features: Var,
    boxes: Var | np.ndarray,
    indices: Var | np.ndarray,
    size: int | tuple[int, int],
    *,
    scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Var:
    options = roi_kernels.options_of(size, (scale,), sampling_ratio, aligned)
    return _roi_align([features], boxes, indices, None, options)


def roi_align_levels(
    features: Sequence[Var],
    boxes: Var | np.ndarray,
    indices: Var | np.ndarray,
    levels: Var | np.ndarray,
    size: int | tuple[int, int],
    *,
    scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Var:
    options = roi_kernels.options_of(size, scales, sampling_ratio, aligned)
    return _roi_align(list(features), boxes, indices, levels, options)


def _roi_align(
    features: list[Var],
    boxes: Var | np.ndarray,
    indices: Var | np.ndarray,
    levels: Var | np.ndarray | None,
    options: roi_kernels.Options,
) -> Var:
    roi_kernels.check_shapes(features, boxes, indices, levels, options.scales)
    regions = [v.numpy() if isinstance(v, jt.Var) else v for v in (boxes, indices, levels)]
    kind = dtype_of(features[0])
    cuda = bool(jt.flags.use_cuda)
    turned_off = os.environ.get(kernels.ENVIRONMENT_VARIABLE) == "composite"
    if turned_off or not (cuda or kernels.available()):
        return composite_roi.roi_align_levels(features, *regions, options)
    wide = kind if kind in ("float32", "float64") else "float32"
    images, channels = features[0].shape[:2]
    boxes, indices, levels = roi_kernels.host_regions(*regions, images, len(features), wide)
    if 0 in (len(boxes), channels):
        return jt.zeros([len(boxes), channels, *options.size], kind)
    if levels is None:
        levels = np.zeros(len(boxes), np.int64)
    plan = _Plan([var_of(v) for v in (boxes, indices, levels)], options, wide, cuda)
    maps = features if wide == kind else [jt.cast(feature, wide) for feature in features]
    cells = _RoiAlign.apply(*maps, plan)
    return cells if wide == kind else jt.cast(cells, kind)


class _Plan:
    """What forward and backward share."""

    def __init__(
        self, regions: list[Var], options: roi_kernels.Options, dtype: str, cuda: bool
    ) -> None:
        self.regions, self.options, self.dtype, self.cuda = regions, options, dtype, cuda

    def source(self, name: str, maps: int) -> dict[str, Any]:
        """Source and data of the kernel for a number of maps."""
        options = self.options
        data = {
            "rows": options.size[0],
            "columns": options.size[1],
            "sampling": options.sampling_ratio,
            "aligned": options.aligned,
            **{f"scale{k}": scale for k, scale in enumerate(options.scales)},
        }
        if self.cuda:
            source = roi_align_cuda.SOURCES[name](maps)
            return {"cuda_header": roi_align_cuda.HEADER, "cuda_src": source, "data": _real(data)}
        function = roi_kernels.function(name, self.dtype)
        # A double holds an address of up to 53 bits exactly; user space has fewer.
        data["address"] = ctypes.cast(function, ctypes.c_void_p).value
        data["threads"] = kernels.max_threads()
        return {"cpu_header": _HEADER, "cpu_src": _SOURCES[name](maps), "data": _real(data)}


def _real(data: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in data.items()}


class _RoiAlign(jt.Function):
    """Maps and a plan to cells."""

    def execute(self, *arguments: Any) -> Var:
        *features, plan = arguments
        self.plan, self.shapes = plan, [list(feature.shape) for feature in features]
        count = plan.regions[0].shape[0]
        shape = [count, features[0].shape[1], *plan.options.size]
        source = plan.source("roi_align", len(features))
        return jt.code(shape, plan.dtype, [*plan.regions, *features], **source)

    def grad(self, gradient: Var) -> tuple[Any, ...]:
        plan, maps = self.plan, len(self.shapes)
        found = jt.code(
            self.shapes,
            [plan.dtype] * maps,
            [*plan.regions, gradient],
            **plan.source("roi_align_backward", maps),
        )
        return *(found if isinstance(found, (list, tuple)) else [found]), None


_HEADER = r"""
#include <cstdint>
#include <stdexcept>

namespace unidet_roi {

typedef int64_t (*Kernel)(const void*, const void*, const int64_t*, const int64_t*, const int64_t*,
                          double, int64_t, void*);

inline void run(double address, const void* source, const void* boxes, const int64_t* indices,
                const int64_t* levels, const int64_t* sizes, double scale, bool aligned,
                void* out) {
    const Kernel kernel = reinterpret_cast<Kernel>(uintptr_t(address));
    if (kernel(source, boxes, indices, levels, sizes, scale, aligned, out))
        throw std::runtime_error("RoIAlign: not enough memory, or an image that does not exist");
}

}  // namespace unidet_roi
"""


def _call(level: int, map_: str, source: str, out: str) -> str:
    return f"""
{{
    const int64_t sizes[] = {{
        {map_}_shape0, {map_}_shape1, {map_}_shape2, {map_}_shape3, int64_t(data["rows"]),
        int64_t(data["columns"]), in0_shape0, {level}, int64_t(data["sampling"]),
        int64_t(data["threads"])}};
    unidet_roi::run(data["address"], {source}_p, in0_p, (const int64_t*)in1_p,
                    (const int64_t*)in2_p, sizes, data["scale{level}"], data["aligned"] != 0,
                    {out}_p);
}}"""


def _forward(maps: int) -> str:
    return "".join(_call(k, f"in{3 + k}", f"in{3 + k}", "out0") for k in range(maps))


def _backward(maps: int) -> str:
    return "".join(_call(k, f"out{k}", "in3", f"out{k}") for k in range(maps))


_SOURCES = {"roi_align": _forward, "roi_align_backward": _backward}
