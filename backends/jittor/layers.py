"""Layers on Jittor, with torch's arguments, names and numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.batch_norm import (
    batch_norm_inference,
    batch_norm_synchronised,
    batch_norm_training,
    relu,
)
from unidet.backends.jittor.conv import conv2d
from unidet.backends.jittor.module import JittorModule, as_var, parameter
from unidet.backends.jittor.pooling import max_pool2d
from unidet.backends.parallel import ranks
from unidet.backends.registry import implementation


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, (int, np.integer)) else tuple(value)


def _empty(*shape: int) -> Any:
    return parameter(np.zeros(shape, np.float32))


def _ops() -> Any:
    return implementation("jittor", "ops")


class _Conv2d(JittorModule):
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
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Invalid value for `groups`. Expected a divisor of in_channels={in_channels} and "
                f"out_channels={out_channels}. Received {groups}."
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.weight = _empty(out_channels, in_channels // groups, *self.kernel_size)
        self.bias = _empty(out_channels) if bias else None

    def forward(self, x: Any) -> Any:
        return conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class _Linear(JittorModule):
    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = _empty(out_features, in_features)
        self.bias = _empty(out_features) if bias else None

    def forward(self, x: Any) -> Any:
        return _ops().linear(x, self.weight, self.bias)


class _Embedding(JittorModule):
    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None:
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = _empty(num_embeddings, embedding_dim)

    def forward(self, indices: Any) -> Any:
        weight = self.weight
        if self.padding_idx is not None:
            # The row of padding is read but gets no gradient.
            learnt = np.ones((self.num_embeddings, 1), np.float32)
            learnt[self.padding_idx] = 0
            mask = as_var(learnt).stop_grad()
            weight = weight * mask + weight.detach() * (1 - mask)
        return _ops().take(weight, indices, 0)


class _BatchNorm2d(JittorModule):
    #: Take statistics over the images of all ranks.
    synchronised = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = _empty(num_features) if affine else None
        self.bias = _empty(num_features) if affine else None
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(num_features, np.float32))
            self.register_buffer("running_var", np.ones(num_features, np.float32))
            self.register_buffer("num_batches_tracked", np.zeros((), np.int64))
        else:
            self.running_mean = self.running_var = self.num_batches_tracked = None

    def forward(self, x: Any) -> Any:
        if x.ndim != 4 or x.shape[1] != self.num_features:
            raise ValueError(
                f"Invalid value for `x`. Expected shape (N, {self.num_features}, H, W). "
                f"Received {tuple(x.shape)}."
            )
        if not self.training and self.running_mean is not None:
            return batch_norm_inference(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.eps
            )
        count = x.shape[0] * x.shape[2] * x.shape[3]
        if self.synchronised and self.training and ranks.world().size > 1:
            result, mean, variance, count = batch_norm_synchronised(
                x, self.weight, self.bias, self.eps
            )
        else:
            result, mean, variance = batch_norm_training(x, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None:
            self._track(mean, variance, count)
        return result

    def _track(self, mean: Any, variance: Any, count: int) -> None:
        batches = int(self.num_batches_tracked) + 1
        object.__setattr__(self, "num_batches_tracked", np.array(batches, np.int64))
        momentum = 1 / batches if self.momentum is None else self.momentum
        # As data, or each momentum and each image size would compile a kernel.
        weights = as_var(np.array([momentum, momentum * count / (count - 1)], np.float32))
        keep = 1 - weights[0]
        for buffer, value in (
            (self.running_mean, keep * self.running_mean + weights[0] * mean),
            (self.running_var, keep * self.running_var + weights[1] * variance),
        ):
            buffer.update(value.detach())
            buffer.stop_grad()


class _GroupNorm(JittorModule):
    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(
                f"Invalid value for `num_groups`. Expected a divisor of num_channels="
                f"{num_channels}. Received {num_groups}."
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = _empty(num_channels) if affine else None
        self.bias = _empty(num_channels) if affine else None

    def forward(self, x: Any) -> Any:
        return _ops().group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _LayerNorm(JittorModule):
    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(normalized_shape, (int, np.integer)):
            normalized_shape = (int(normalized_shape),)
        self.normalized_shape, self.eps = tuple(normalized_shape), eps
        self.weight = _empty(*self.normalized_shape) if elementwise_affine else None
        self.bias = _empty(*self.normalized_shape) if elementwise_affine else None

    def forward(self, x: Any) -> Any:
        # The normalized axes as one: the kernels are those of the last axis.
        shape, rank = tuple(x.shape), len(self.normalized_shape)
        if shape[-rank:] != self.normalized_shape:
            raise ValueError(
                f"Invalid value for `x`. Expected a shape that ends in {self.normalized_shape}. "
                f"Received {shape}."
            )
        flat = x.reshape(*shape[:-rank], -1) if rank > 1 else x
        weight = None if self.weight is None else self.weight.reshape(-1)
        bias = None if self.bias is None else self.bias.reshape(-1)
        return _ops().layer_norm(flat, weight, bias, self.eps).reshape(shape)


class _ReLU(JittorModule):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        return relu(x)


class _MaxPool2d(JittorModule):
    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.ceil_mode = kernel_size, padding, ceil_mode
        self.stride = kernel_size if stride is None else stride

    def forward(self, x: Any) -> Any:
        return max_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)


class _AvgPool2d(JittorModule):
    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.ceil_mode = kernel_size, padding, ceil_mode
        self.stride = kernel_size if stride is None else stride
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        return _ops().avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class _Dropout(JittorModule):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Invalid value for `p`. Expected 0 <= p <= 1. Received {p}.")
        self.p, self.inplace = p, inplace

    def forward(self, x: Any) -> Any:
        return jt.nn.dropout(x, self.p, is_train=True) if self.training and self.p else x


class _Identity(JittorModule):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class _Sequential(JittorModule):
    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], OrderedDict):
            named = modules[0].items()
        else:
            named = ((str(index), module) for index, module in enumerate(modules))
        for name, module in named:
            setattr(self, name, module)

    def _items(self) -> list[Any]:
        return [value for value in self.__dict__.values() if isinstance(value, jt.Module)]

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def __getitem__(self, index: int | slice) -> Any:
        items = self._items()[index]
        return type(self)(*items) if isinstance(index, slice) else items

    def append(self, module: Any) -> Any:
        """Adds ``module`` at the end."""
        setattr(self, str(len(self)), module)
        return self

    def forward(self, x: Any) -> Any:
        for module in self._items():
            x = module(x)
        return x


class _ModuleList(_Sequential):
    def __init__(self, modules: Iterable[Any] | None = None) -> None:
        super().__init__(*(modules or ()))

    def __getitem__(self, index: int | slice) -> Any:
        items = self._items()[index]
        return type(self)(items) if isinstance(index, slice) else items

    def extend(self, modules: Iterable[Any]) -> Any:
        """Adds ``modules`` at the end."""
        for module in modules:
            self.append(module)
        return self

    def forward(self, *args: Any) -> Any:
        raise TypeError("A ModuleList has no forward. Call its parts.")


BASES: dict[str, type] = {
    "Module": JittorModule,
    "Conv2d": _Conv2d,
    "Linear": _Linear,
    "Embedding": _Embedding,
    "BatchNorm2d": _BatchNorm2d,
    "GroupNorm": _GroupNorm,
    "LayerNorm": _LayerNorm,
    "ReLU": _ReLU,
    "MaxPool2d": _MaxPool2d,
    "AvgPool2d": _AvgPool2d,
    "Dropout": _Dropout,
    "Identity": _Identity,
    "Sequential": _Sequential,
    "ModuleList": _ModuleList,
}
