"""Non-maximum suppression as PyTorch operators: ``unidet::nms``, ``batched_nms``, ``soft_nms``.

Being registered operators with a shape rule, they pass through ``torch.compile`` and
``torch.export``. On the CPU they call :mod:`unidet.backends.kernels`. On CUDA ``nms`` and
``batched_nms`` use torchvision's kernel where torchvision is installed, else the host's.
None of them has a gradient: the indices are not differentiable, and the decayed scores of soft-NMS
are for ranking.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util

import torch

from unidet.backends import kernels

#: Coordinates whose areas float32 holds.
_LARGEST = 1e18


@torch.library.custom_op("unidet::nms", mutates_args=())
def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """``(kept,)`` int64 indices by falling score, then index; see :func:`kernels.nms`.

    Args:
        boxes: ``(n, 4)`` floating, x1, y1, x2, y2.
        scores: ``(n,)`` floating.
        iou_threshold: in [0, 1].
    """
    fast = _on_gpu(boxes, scores)
    if fast is not None:
        return fast.nms(boxes, _nan_last(scores), iou_threshold)
    kept = kernels.nms(_host(boxes), _host(scores), iou_threshold)
    return torch.from_numpy(kept).to(boxes.device)


@torch.library.custom_op("unidet::batched_nms", mutates_args=())
def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """``(kept,)`` int64 indices over all classes; see :func:`kernels.batched_nms`.

    Args:
        boxes: ``(n, 4)`` floating, x1, y1, x2, y2.
        scores: ``(n,)`` floating.
        classes: ``(n,)`` integers.
        iou_threshold: in [0, 1].
    """
    fast = _on_gpu(boxes, scores)
    if fast is not None:
        return _batched_on_gpu(fast, boxes, scores, classes, iou_threshold)
    kept = kernels.batched_nms(
        _host(boxes), _host(scores), _host(classes), iou_threshold, threads=torch.get_num_threads()
    )
    return torch.from_numpy(kept).to(boxes.device)


@torch.library.custom_op("unidet::soft_nms", mutates_args=())
def soft_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(kept,)`` int64 indices and ``(kept,)`` decayed scores; see :func:`kernels.soft_nms`.

    Args:
        boxes: ``(n, 4)`` floating, x1, y1, x2, y2.
        scores: ``(n,)`` floating.
        iou_threshold: in [0, 1].
        sigma: width of "gaussian", positive.
        score_threshold: lowest score kept, zero or more.
        method: "linear", "gaussian" or "hard".
    """
    kept, left = kernels.soft_nms(
        _host(boxes), _host(scores), iou_threshold, sigma, score_threshold, method
    )
    return torch.from_numpy(kept).to(boxes.device), torch.from_numpy(left).to(scores)


@nms.register_fake
def _(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    return _unknown_many(boxes)


@batched_nms.register_fake
def _(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    return _unknown_many(boxes)


@soft_nms.register_fake
def _(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[torch.Tensor, torch.Tensor]:
    kept = _unknown_many(boxes)
    return kept, scores.new_empty(kept.shape)


def _unknown_many(boxes: torch.Tensor) -> torch.Tensor:
    count = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(count, dtype=torch.int64)


def _host(tensor: torch.Tensor):
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16, and the kernels compute half types in float32 anyway.
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.numpy()


@functools.cache
def torchvision_ops():
    """The module ``torchvision.ops``, or None where torchvision is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    return importlib.import_module("torchvision.ops")


def _on_gpu(boxes: torch.Tensor, scores: torch.Tensor):
    # torchvision's kernel takes one dtype for both arguments.
    if not boxes.is_cuda or boxes.dtype != scores.dtype or not len(boxes):
        return None
    # Where areas overflow, and of no numbers, it keeps other boxes than the host's.
    return torchvision_ops() if bool(boxes.abs().max() < _LARGEST) else None


def _batched_on_gpu(fast, boxes, scores, classes, iou_threshold: float) -> torch.Tensor:
    # One launch beats one for each class: shift each class to a place of its own. Shifts are made
    # in float64, in which they cost no precision that decides an overlap.
    wide = boxes.double()
    reach = wide.nan_to_num(0.0, 0.0, 0.0).abs().max()
    _, index = torch.unique(classes, return_inverse=True)
    shifted = wide + (index.double() * (2 * reach + 1))[:, None]
    return fast.nms(shifted, _nan_last(scores).double(), iou_threshold)


def _nan_last(scores: torch.Tensor) -> torch.Tensor:
    # torch sorts NaN first when falling.
    return torch.where(scores.isnan(), -torch.inf, scores)
