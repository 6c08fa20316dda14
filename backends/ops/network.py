"""Layers and losses as functions. Images and feature maps are NCHW; losses are not reduced."""

from __future__ import annotations

from typing import TypeAlias

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor

__all__ = [
    "matmul", "linear", "conv2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
    "interpolate", "batch_norm", "group_norm", "layer_norm", "dropout",
    "scaled_dot_product_attention", "binary_cross_entropy_with_logits", "cross_entropy",
    "sigmoid_focal_loss", "smooth_l1",
]  # fmt: skip

#: One number for both axes, or one for height and one for width.
Pair: TypeAlias = "int | tuple[int, int]"


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """``(..., n, k) @ (..., k, m)``; leading axes broadcast. Both have two axes at least."""
    return IMPLEMENTATION[type(x)].matmul(x, y)


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """``(..., n)`` times ``(m, n)`` transposed, plus ``(m,)``: ``(..., m)``."""
    return IMPLEMENTATION[type(x)].linear(x, w, b)


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of ``(N, C, H, W)`` with ``(M, C / groups, kh, kw)``, plus ``(M,)``."""
    return IMPLEMENTATION[type(x)].conv2d(x, w, b, stride, padding, dilation, groups)


def max_pool2d(
    x: Tensor,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest value of each window; the padding never wins.

    Args:
        x: ``(N, C, H, W)``.
        kernel: size of the window.
        stride: by default the size of the window.
        padding: at most half the window.
        ceil_mode: also windows that reach over the end, if they start inside the padded input.
    """
    return IMPLEMENTATION[type(x)].max_pool2d(x, kernel, stride, padding, ceil_mode)


def avg_pool2d(
    x: Tensor,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Mean of each window; arguments as in :func:`max_pool2d`.

    ``count_include_pad`` says whether zeros of the padding count as elements.
    """
    return IMPLEMENTATION[type(x)].avg_pool2d(
        x, kernel, stride, padding, ceil_mode, count_include_pad
    )


def adaptive_avg_pool2d(x: Tensor, size: Pair) -> Tensor:
    """Means over windows that divide ``(N, C, H, W)`` into ``size`` cells, as torch divides."""
    return IMPLEMENTATION[type(x)].adaptive_avg_pool2d(x, size)


def interpolate(
    x: Tensor, size: tuple[int, int], mode: str = "nearest", align_corners: bool = False
) -> Tensor:
    """``(N, C, H, W)`` resized to ``size`` (height, width) by torch's rules, without antialiasing.

    Args:
        x: the feature map.
        size: height and width of the result.
        mode: "nearest" (``floor(i * in / out)``) or "bilinear".
        align_corners: for "bilinear", whether the corner centres coincide instead of the edges.

    Raises:
        ValueError: unknown mode.
    """
    return IMPLEMENTATION[type(x)].interpolate(x, size, mode, align_corners)


def batch_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with given ``(C,)`` statistics.

    Differentiable in ``x``, ``weight`` and ``bias``; the statistics are constants.
    """
    return IMPLEMENTATION[type(x)].batch_norm(x, mean, var, weight, bias, eps)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group normalisation of ``(N, C, ...)`` (Wu and He, ECCV 2018)."""
    return IMPLEMENTATION[type(x)].group_norm(x, groups, weight, bias, eps)


def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Layer normalisation over as many trailing axes as ``weight`` has, else over the last."""
    return IMPLEMENTATION[type(x)].layer_norm(x, weight, bias, eps)


def dropout(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """``x * mask / (1 - p)``; the mask (True or 1: keep) is data drawn with probability 1 - p."""
    return IMPLEMENTATION[type(x)].dropout(x, mask, p)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """``softmax(query key^T / sqrt(d) + mask) value`` for each head (Vaswani et al. 2017).

    Args:
        query: ``(N, heads, L, d)``.
        key: ``(N, heads, S, d)``.
        value: ``(N, heads, S, d)``.
        mask: numbers in the dtype of ``query`` that broadcast to ``(N, heads, L, S)``, a
            constant. A large negative number hides a key. Take a finite one such as -1e9: a row
            whose keys are all hidden is then their plain average, as the number swallows what it
            is added to.
        dropout: share of the weights that are set to 0, the others growing by
            ``1 / (1 - dropout)``; drawn from the framework's generator. The reference has none.

    Returns:
        ``(N, heads, L, d)``; zeros where there are no keys.

    Raises:
        ValueError: dropout of NumPy arrays.
    """
    return IMPLEMENTATION[type(query)].scaled_dot_product_attention(
        query, key, value, mask, dropout
    )


def binary_cross_entropy_with_logits(x: Tensor, y: Tensor) -> Tensor:
    """``-y log(sigmoid(x)) - (1 - y) log(1 - sigmoid(x))`` for each element, for any ``x``."""
    return IMPLEMENTATION[type(x)].binary_cross_entropy_with_logits(x, y)


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """``-log_softmax(logits)[label]`` for each row.

    Args:
        logits: ``(n, classes)``.
        labels: ``(n,)`` integers, tensor or NumPy array.
        ignore_index: rows with this label have loss 0 and no gradient.
    """
    return IMPLEMENTATION[type(logits)].cross_entropy(logits, labels, ignore_index)


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss for each element (Lin et al., ICCV 2017), accurate for any logit.

    ``p_t = p y + (1 - p)(1 - y)``; the loss is ``alpha_t (1 - p_t)**gamma BCE``.

    Args:
        logits: any shape.
        targets: the same shape and dtype, in [0, 1], constant.
        alpha: weight of positives, 1 - alpha that of negatives; no weighting below 0.
        gamma: focus, 0 or more.
    """
    return IMPLEMENTATION[type(logits)].sigmoid_focal_loss(logits, targets, alpha, gamma)


def smooth_l1(x: Tensor, y: Tensor, beta: float = 1.0) -> Tensor:
    """``d**2 / (2 beta)`` where ``d = |x - y| < beta``, else ``d - beta / 2``; L1 at ``beta`` 0."""
    return IMPLEMENTATION[type(x)].smooth_l1(x, y, beta)
