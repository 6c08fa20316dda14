"""The layers, with torch's constructor arguments and parameter names on both frameworks.

A class marked ``_is_layer`` is implemented by the backend (``backends/<name>/nn.py``); what stands
here is its documentation and its initial values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.backends.nn import initial
from unidet.backends.nn.module import Draw, Module


class _Weighted(Module):
    """A layer with a weight of shape ``(out, in, ...)`` and a bias that may be absent."""

    weight: Any
    bias: Any

    def initial_values(self, draw: Draw) -> dict[str, np.ndarray]:
        shape = tuple(self.weight.shape)
        values = {"weight": initial.kaiming_uniform(draw("weight"), shape, a=5**0.5)}
        if self.bias is not None:
            bound = 1 / np.sqrt(max(initial.fans(shape)[0], 1))
            values["bias"] = initial.uniform(draw("bias"), tuple(self.bias.shape), bound)
        return values


class Conv2d(_Weighted):
    """Convolution of NCHW images.

    ``Conv2d(in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1,
    bias=True)``; sizes are integers or ``(y, x)`` pairs. ``weight`` has the shape
    ``(out_channels, in_channels // groups, kh, kw)``.
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(
            self,
            in_channels: int,
            out_channels: int,
            kernel_size: int | tuple[int, int],
            stride: int | tuple[int, int] = 1,
            padding: int | tuple[int, int] = 0,
            dilation: int | tuple[int, int] = 1,
            groups: int = 1,
            bias: bool = True,
        ) -> None: ...


class Linear(_Weighted):
    """``x @ weight.T + bias`` over the last axis.

    ``Linear(in_features, out_features, bias=True)``; ``weight`` is ``(out_features, in_features)``.
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None: ...


class Embedding(Module):
    """Rows of a table: ``Embedding(num_embeddings, embedding_dim, padding_idx=None)``."""

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(
            self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
        ) -> None: ...

    weight: Any
    padding_idx: int | None

    def initial_values(self, draw: Draw) -> dict[str, np.ndarray]:
        table = initial.normal(draw("weight"), tuple(self.weight.shape))
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        return {"weight": table}


class _Norm(Module):
    weight: Any
    bias: Any

    def initial_values(self, draw: Draw) -> dict[str, np.ndarray]:
        values = {}
        if self.weight is not None:
            values["weight"] = np.ones(tuple(self.weight.shape), np.float32)
        if self.bias is not None:
            values["bias"] = np.zeros(tuple(self.bias.shape), np.float32)
        return values


class BatchNorm2d(_Norm):
    """Batch normalization of NCHW images (Ioffe and Szegedy 2015).

    ``BatchNorm2d(num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True)``.
    In training the batch's mean and biased variance normalize, and the running statistics take
    in the mean and the unbiased variance with weight ``momentum`` (``None``: a plain average over
    all batches so far). Statistics are taken in two passes on both frameworks.
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(
            self,
            num_features: int,
            eps: float = 1e-5,
            momentum: float | None = 0.1,
            affine: bool = True,
            track_running_stats: bool = True,
        ) -> None: ...

    running_mean: Any
    running_var: Any

    def initial_values(self, draw: Draw) -> dict[str, np.ndarray]:
        values = super().initial_values(draw)
        if self.running_mean is not None:
            count = tuple(self.running_mean.shape)
            values["running_mean"] = np.zeros(count, np.float32)
            values["running_var"] = np.ones(count, np.float32)
            values["num_batches_tracked"] = np.zeros((), np.int64)
        return values


class FrozenBatchNorm2d(Module):
    """Batch normalization by fixed numbers: all four vectors are buffers, none is trained.

    Args:
        num_features: number of channels.
        eps: added to the variance. torchvision uses 1e-5 and, for its own checkpoints of detectors,
            0; detectron2 uses 1e-5.
    """

    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", np.ones(num_features, np.float32))
        self.register_buffer("bias", np.zeros(num_features, np.float32))
        self.register_buffer("running_mean", np.zeros(num_features, np.float32))
        self.register_buffer("running_var", np.ones(num_features, np.float32))

    def forward(self, x: Any) -> Any:
        """Normalizes ``(N, C, H, W)``."""
        from unidet.backends import ops

        return ops.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.eps
        )


class GroupNorm(_Norm):
    """Group normalization (Wu and He 2018).

    ``GroupNorm(num_groups, num_channels, eps=1e-5, affine=True)``.
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(
            self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
        ) -> None: ...


class LayerNorm(_Norm):
    """Layer normalization (Ba et al. 2016).

    ``LayerNorm(normalized_shape, eps=1e-5, elementwise_affine=True)``.
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(
            self,
            normalized_shape: int | Sequence[int],
            eps: float = 1e-5,
            elementwise_affine: bool = True,
        ) -> None: ...


class ReLU(Module):
    """``max(x, 0)``. ``ReLU(inplace=False)``; Jittor never works in place."""

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(self, inplace: bool = False) -> None: ...


class MaxPool2d(Module):
    """Largest value of each window.

    ``MaxPool2d(kernel_size, stride=None, padding=0, ceil_mode=False)``; the stride defaults to the
    kernel size.
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(
            self,
            kernel_size: int | tuple[int, int],
            stride: int | tuple[int, int] | None = None,
            padding: int | tuple[int, int] = 0,
            *,
            ceil_mode: bool = False,
        ) -> None: ...


class AvgPool2d(Module):
    """Mean of each window.

    ``AvgPool2d(kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True)``.
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(
            self,
            kernel_size: int | tuple[int, int],
            stride: int | tuple[int, int] | None = None,
            padding: int | tuple[int, int] = 0,
            ceil_mode: bool = False,
            count_include_pad: bool = True,
        ) -> None: ...


class Dropout(Module):
    """Zeroes values with probability ``p`` in training and scales the rest by ``1 / (1 - p)``.

    The mask comes from the framework's own generator
    (:func:`unidet.backends.random.seed_framework`).
    """

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(self, p: float = 0.5) -> None: ...


class Identity(Module):
    """Returns its input. Takes and ignores any arguments."""

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class Sequential(Module):
    """Modules applied in turn: ``Sequential(*modules)`` or ``Sequential(OrderedDict)``."""

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(self, *modules: Any) -> None: ...
        def __getitem__(self, index: int) -> Any: ...
        def __iter__(self) -> Iterator[Any]: ...
        def __len__(self) -> int: ...


class ModuleList(Module):
    """A list of modules, without a ``forward``: ``ModuleList(modules=None)``."""

    _is_layer = True

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[Any] | None = None) -> None: ...
        def __getitem__(self, index: int) -> Any: ...
        def __iter__(self) -> Iterator[Any]: ...
        def __len__(self) -> int: ...
        def append(self, module: Any) -> Any: ...
