"""Modules that hold shapes alone: a model without a framework, without weights, without memory.

``create_model(name, backend="numpy")`` makes such a model. Its tensors are read-only zeros that
take no memory. The converters read names and shapes off it; it computes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def _zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return np.broadcast_to(np.zeros((), dtype), shape)


class Parameter:
    """A trainable tensor, known by its shape.

    Attributes:
        array: read-only zeros.
        trainable: whether gradients would reach it.
    """

    _backend = "numpy"

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = _zeros(shape)
        self.trainable = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.array.shape


class ShapeModule:
    """Keeps parameters, buffers and parts by name, in the order of torch."""

    _parameters: dict[str, Parameter]
    _buffers: Arrays
    _modules: dict[str, ShapeModule]

    def __init__(self) -> None:
        own = self.__dict__
        own["_parameters"], own["_buffers"], own["_modules"] = {}, {}, {}
        own["training"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._parameters[name] = value
        elif isinstance(value, ShapeModule):
            self._modules[name] = value
        object.__setattr__(self, name, value)

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """As torch's, for a NumPy array."""
        if persistent:
            array = np.asarray(value)
            self._buffers[name] = _zeros(array.shape, array.dtype)
        object.__setattr__(self, name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """This module under ``prefix`` and all parts, parents first."""
        yield prefix, self
        for name, part in self._modules.items():
            yield from part.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters; one that is used twice comes once."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in module._parameters.items():
                if id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters without their names."""
        return (value for _, value in self.named_parameters())

    def train(self, mode: bool = True) -> Any:
        """Sets the mode of all parts."""
        for _, module in self.named_modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Any:
        """Evaluation mode."""
        return self.train(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "A model on the backend 'numpy' has shapes alone. Make it with backend='torch' or "
            "backend='jittor' to compute with it."
        )


class _Layer(ShapeModule):
    def _weighted(self, shape: tuple[int, ...], bias: bool) -> None:
        self.weight = Parameter(shape)
        self.bias = Parameter((shape[0],)) if bias else None


class _Conv2d(_Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        sides = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        self._weighted((out_channels, in_channels // groups, *sides), bias)


class _Linear(_Layer):
    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self._weighted((out_features, in_features), bias)


class _Embedding(_Layer):
    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.weight = Parameter((num_embeddings, embedding_dim))


class _BatchNorm2d(_Layer):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        if affine:
            self._weighted((num_features,), True)
        if track_running_stats:
            self.register_buffer("running_mean", _zeros((num_features,)))
            self.register_buffer("running_var", _zeros((num_features,)))
            self.register_buffer("num_batches_tracked", _zeros((), np.int64))


class _GroupNorm(_Layer):
    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError("num_channels must be divisible by num_groups")
        if affine:
            self._weighted((num_channels,), True)


class _LayerNorm(_Layer):
    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True
    ) -> None:
        super().__init__()
        one = isinstance(normalized_shape, int)
        shape = (normalized_shape,) if one else tuple(normalized_shape)
        if elementwise_affine:
            self.weight, self.bias = Parameter(shape), Parameter(shape)


class _Plain(ShapeModule):
    """A layer without tensors, whatever its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


class _Container(ShapeModule):
    def __getitem__(self, index: Any) -> Any:
        return list(self._modules.values())[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def append(self, module: Any) -> Any:
        """Adds a module at the end."""
        self._modules[str(len(self))] = module
        return self


class _ModuleList(_Container):
    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        for module in modules or ():
            self.append(module)


class _Sequential(_Container):
    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], OrderedDict):
            self._modules.update(modules[0])
        else:
            for module in modules:
                self.append(module)


_BASES: dict[str, type] = {
    "Module": ShapeModule,
    "Conv2d": _Conv2d,
    "Linear": _Linear,
    "Embedding": _Embedding,
    "BatchNorm2d": _BatchNorm2d,
    "GroupNorm": _GroupNorm,
    "LayerNorm": _LayerNorm,
    "Sequential": _Sequential,
    "ModuleList": _ModuleList,
    **dict.fromkeys(("ReLU", "MaxPool2d", "AvgPool2d", "Dropout", "Identity"), _Plain),
}


def bases(layer: str) -> tuple[type, ...]:
    """Base classes of ``layer``; ``"Module"`` is a plain module."""
    return (_BASES[layer],)


def parameter(array: np.ndarray) -> Parameter:
    """A parameter with the shape of ``array``."""
    return Parameter(np.shape(array))


def parameters(model: ShapeModule) -> dict[str, Parameter]:
    """All parameters by name."""
    return dict(model.named_parameters())


def is_trainable(value: Parameter) -> bool:
    """Whether gradients would reach ``value``."""
    return value.trainable


def set_trainable(module: ShapeModule, name: str, trainable: bool) -> None:
    """Lets gradients reach the parameter ``name`` of ``module``, or not."""
    parameters(module)[name].trainable = trainable


def arrays(model: ShapeModule) -> Arrays:
    """Zeros of the shapes of all parameters and persistent buffers by name."""
    found: Arrays = {}
    for prefix, module in model.named_modules():
        start = f"{prefix}." if prefix else ""
        found |= {start + name: value.array for name, value in module._parameters.items()}
        found |= {start + name: value for name, value in module._buffers.items()}
    return found


def shapes(model: ShapeModule) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters and persistent buffers by name."""
    return {name: value.shape for name, value in arrays(model).items()}


def device_of(model: ShapeModule) -> str:
    """``"cpu"``."""
    return "cpu"
