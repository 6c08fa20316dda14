"""RoIAlign as PyTorch operators with a gradient: ``unidet::roi_align`` and its backward.

On the CPU they call :mod:`unidet.backends.kernels.roi_align` on the tensors' own memory: a
channels-last map gives channels-last cells, and no map is copied for its layout. On CUDA
torchvision's kernel is used where torchvision is installed; else, and without the compiled
library, the composite form.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unidet.backends import kernels
from unidet.backends.kernels import composite_roi
from unidet.backends.kernels import roi_align as roi_kernels
from unidet.backends.torch.kernels import torchvision_ops

_LAST = torch.channels_last


def roi_align(
    features: Tensor,
    boxes: Tensor | np.ndarray,
    indices: Tensor | np.ndarray,
    size: int | tuple[int, int],
    *,
    scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    options = roi_kernels.options_of(size, (scale,), sampling_ratio, aligned)
    return _roi_align([features], boxes, indices, None, options)


def roi_align_levels(
    features: Sequence[Tensor],
    boxes: Tensor | np.ndarray,
    indices: Tensor | np.ndarray,
    levels: Tensor | np.ndarray,
    size: int | tuple[int, int],
    *,
    scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    options = roi_kernels.options_of(size, scales, sampling_ratio, aligned)
    return _roi_align(list(features), boxes, indices, levels, options)


def _roi_align(
    features: list[Tensor],
    boxes: Tensor | np.ndarray,
    indices: Tensor | np.ndarray,
    levels: Tensor | np.ndarray | None,
    options: roi_kernels.Options,
) -> Tensor:
    roi_kernels.check_shapes(features, boxes, indices, levels, options.scales)
    given = features[0].dtype
    # The kernels know two dtypes, and torchvision's would place samples in the type of the map:
    # half types are computed in float32.
    kind = given if given in (torch.float32, torch.float64) else torch.float32
    features = [feature.to(kind) for feature in features]
    first = features[0]
    kernel = _kernel()
    vendor = torchvision_ops() if first.is_cuda and kernel != "composite" else None
    if vendor is not None:
        return _on_gpu(vendor, features, boxes, indices, levels, options).to(given)
    if first.is_cuda or kernel != "compiled":
        host = (None if v is None else _host(v) for v in (boxes, indices, levels))
        return composite_roi.roi_align_levels(features, *host, options).to(given)
    cells = torch.ops.unidet.roi_align(
        features,
        _tensor(boxes, first, kind),
        _numbers(indices, first),
        None if levels is None else _numbers(levels, first),
        list(options.size),
        list(options.scales),
        options.sampling_ratio,
        options.aligned,
    )
    return cells.to(given)


@torch.compiler.assume_constant_result
def _kernel() -> str:
    """Which form is wanted and there."""
    if os.environ.get(kernels.ENVIRONMENT_VARIABLE) == "composite":
        return "composite"
    return "compiled" if kernels.available() else "absent"


def _tensor(value: Tensor | np.ndarray, like: Tensor, dtype: torch.dtype) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to(like.device, dtype)
    return torch.tensor(value, dtype=dtype, device=like.device)


def _numbers(value: Tensor | np.ndarray, like: Tensor) -> Tensor:
    if value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind not in "iu":
        raise TypeError(
            f"Invalid value for `indices` or `levels`. Expected integers. Received {value.dtype}."
        )
    return _tensor(value, like, torch.int64)


def _host(value: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()


def _on_gpu(vendor, features, boxes, indices, levels, options: roi_kernels.Options) -> Tensor:
    first = features[0]
    # Its kernel reads whatever lies there for an image that is not.
    host = (None if value is None else _host(value) for value in (boxes, indices, levels))
    roi_kernels.host_regions(*host, len(first), len(features), "float64")
    regions = torch.cat(
        [_numbers(indices, first)[:, None].to(first.dtype), _tensor(boxes, first, first.dtype)], 1
    )
    settings = (options.sampling_ratio or -1, options.aligned)
    if levels is None:
        return vendor.roi_align(first, regions, options.size, options.scales[0], *settings)
    levels = _numbers(levels, first)
    rows = [torch.nonzero(levels == k).flatten() for k in range(len(features))]
    cells = torch.cat(
        [
            vendor.roi_align(feature, regions[part], options.size, scale, *settings)
            for feature, part, scale in zip(features, rows, options.scales)
        ]
    )
    return cells[torch.argsort(torch.cat(rows))]


_SETTINGS = "int[] size, float[] scales, int sampling_ratio, bool aligned"


@torch.library.custom_op(
    "unidet::roi_align",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor[] features, Tensor boxes, Tensor indices, Tensor? levels, "
    f"{_SETTINGS}) -> Tensor",
)
def _forward(
    features: list[Tensor],
    boxes: Tensor,
    indices: Tensor,
    levels: Tensor | None,
    size: list[int],
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    options = roi_kernels.Options((size[0], size[1]), tuple(scales), sampling_ratio, aligned)
    out = _cells(features, boxes, size)
    if out.numel():
        roi_kernels.forward(
            [_dense(feature).numpy() for feature in features],
            *_arrays(boxes, indices, levels),
            options,
            out.numpy(),
            torch.get_num_threads(),
        )
    return out


@torch.library.custom_op(
    "unidet::roi_align_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor gradient, Tensor boxes, Tensor indices, Tensor? levels, SymInt[] shapes, "
    f"bool[] last, {_SETTINGS}) -> Tensor[]",
)
def _backward(
    gradient: Tensor,
    boxes: Tensor,
    indices: Tensor,
    levels: Tensor | None,
    shapes: list[int],
    last: list[bool],
    size: list[int],
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
) -> list[Tensor]:
    options = roi_kernels.Options((size[0], size[1]), tuple(scales), sampling_ratio, aligned)
    outs = _maps(gradient, shapes, last)
    if gradient.numel() == 0:
        return [out.zero_() for out in outs]
    roi_kernels.backward(
        _dense(gradient).numpy(),
        *_arrays(boxes, indices, levels),
        options,
        [out.numpy() for out in outs],
        torch.get_num_threads(),
    )
    return outs


@_forward.register_fake
def _(features, boxes, indices, levels, size, scales, sampling_ratio, aligned):
    return _cells(features, boxes, size)


@_backward.register_fake
def _(gradient, boxes, indices, levels, shapes, last, size, scales, sampling_ratio, aligned):
    return _maps(gradient, shapes, last)


def _save(ctx, inputs, output) -> None:
    features, boxes, indices, levels, *settings = inputs
    ctx.save_for_backward(boxes, indices, levels)
    ctx.settings = settings
    ctx.shapes = [side for feature in features for side in feature.shape]
    ctx.last = [_is_last(feature) for feature in features]


def _gradients(ctx, gradient: Tensor):
    grads = torch.ops.unidet.roi_align_backward(
        gradient, *ctx.saved_tensors, ctx.shapes, ctx.last, *ctx.settings
    )
    return grads, *(None,) * 7


torch.library.register_autograd("unidet::roi_align", _gradients, setup_context=_save)


def _is_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=_LAST)


def _dense(x: Tensor) -> Tensor:
    """The same values in NCHW or channels-last memory; a copy only where they lie otherwise."""
    x = x.detach()
    return x if _is_last(x) else x.contiguous()


def _cells(features: Sequence[Tensor], boxes: Tensor, size: Sequence[int]) -> Tensor:
    first = features[0]
    shape = (boxes.shape[0], first.shape[1], size[0], size[1])
    layout = _LAST if _is_last(first) else torch.contiguous_format
    return torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=layout)


def _maps(gradient: Tensor, shapes: Sequence[int], last: Sequence[bool]) -> list[Tensor]:
    return [
        torch.empty(
            tuple(shapes[4 * k : 4 * k + 4]),
            dtype=gradient.dtype,
            device=gradient.device,
            memory_format=_LAST if flag else torch.contiguous_format,
        )
        for k, flag in enumerate(last)
    ]


def _arrays(boxes: Tensor, indices: Tensor, levels: Tensor | None):
    return (
        boxes.detach().numpy(),
        indices.numpy(),
        None if levels is None else levels.numpy(),
    )
