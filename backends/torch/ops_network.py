"""Layers, losses and boxes on ``torch.Tensor``. Meaning: :mod:`unidet.backends.ops`."""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unidet.backends.kernels import composite
from unidet.backends.torch import kernels

Pair = int | tuple[int, int]

matmul = torch.matmul
linear = F.linear
conv2d = F.conv2d


def max_pool2d(
    x: Tensor,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    return F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)


def avg_pool2d(
    x: Tensor,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    return F.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad)


def adaptive_avg_pool2d(x: Tensor, size: Pair) -> Tensor:
    return F.adaptive_avg_pool2d(x, size)


def interpolate(
    x: Tensor, size: tuple[int, int], mode: str = "nearest", align_corners: bool = False
) -> Tensor:
    if mode == "bilinear":
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    if mode == "nearest":
        return F.interpolate(x, size, mode="nearest")
    raise ValueError(
        f"Invalid value for `mode`. Expected 'nearest' or 'bilinear'. Received {mode!r}."
    )


def batch_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    # Some releases' F.batch_norm (2.11) refuses the eps of 0 that torchvision's first weights need.
    return torch.batch_norm(
        x, weight, bias, mean, var, False, 0.0, eps, torch.backends.cudnn.enabled
    )


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    # torch's layer and F.group_norm refuse groups of one value, whose answer is the bias.
    return torch.group_norm(x, groups, weight, bias, eps)


def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    shape = x.shape[-1:] if weight is None else weight.shape
    return F.layer_norm(x, shape, weight, bias, eps)


def dropout(x: Tensor, mask: Tensor, p: float) -> Tensor:
    return x * mask.to(x.dtype) * (1.0 / (1.0 - p))


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, mask, dropout)


def binary_cross_entropy_with_logits(x: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(x, y, reduction="none")


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    if isinstance(labels, np.ndarray):
        labels = torch.tensor(labels, device=logits.device)
    return F.cross_entropy(logits, labels.long(), ignore_index=ignore_index, reduction="none")


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    cross = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # 1 - p_t = p + y - 2 p y
    miss = torch.addcmul(targets, torch.sigmoid(logits), 1 - 2 * targets)
    loss = cross * (miss * miss if gamma == 2 else miss**gamma)
    return loss if alpha < 0 else loss * (1 - alpha + (2 * alpha - 1) * targets)


def smooth_l1(x: Tensor, y: Tensor, beta: float = 1.0) -> Tensor:
    return F.smooth_l1_loss(x, y, reduction="none", beta=beta)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    return composite.box_iou(a, b)


def _composite() -> bool:
    return os.environ.get("UNIDET_KERNELS") == "composite"


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    form = composite.nms if _composite() else kernels.nms
    return form(boxes.detach(), scores.detach(), float(iou_threshold))


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    form = composite.batched_nms if _composite() else kernels.batched_nms
    return form(boxes.detach(), scores.detach(), classes, float(iou_threshold))


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[Tensor, Tensor]:
    form = composite.soft_nms if _composite() else kernels.soft_nms
    return form(boxes.detach(), scores.detach(), iou_threshold, sigma, score_threshold, method)
