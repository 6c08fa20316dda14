"""Modules on PyTorch: the framework's own layers, made without drawing random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unidet.backends.parallel import batch_split, ranks
from unidet.backends.torch import ops_network, precision
from unidet.backends.torch.distributed import batch_statistics

_LAYERS = (
    *("Conv2d", "Linear", "Embedding", "BatchNorm2d", "GroupNorm", "LayerNorm", "ReLU"),
    *("MaxPool2d", "AvgPool2d", "Dropout", "Identity", "Sequential", "ModuleList"),
)


class _Torch:
    """What unidet's modules add to torch's."""

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """As torch's, and takes NumPy arrays too."""
        if isinstance(value, (np.ndarray, np.generic)):
            value = _copied(value)
        super().register_buffer(name, value, persistent)  # type: ignore[misc]


class _Blank(_Torch):
    """For layers whose values the library draws itself (``initial_values``)."""

    def reset_parameters(self) -> None:
        # Leaves torch's generator alone, and the memory defined.
        for parameter in self.parameters():  # type: ignore[attr-defined]
            parameter.data.zero_()


#: Pixels of a map from which a product is faster: 0.6 of the time at 60000, even at 4000.
_PRODUCT_AREA = 4096


class _Convolution(_Blank):
    """The forms that a CPU likes best, with one result.

    Where no gradient is asked for, the channels go innermost, and the layers behind keep what they
    receive. Not in training: torch's batch statistics over such maps are a hundred times less
    exact, which turns ReLUs and bends gradients by 1e-3. There 1x1 kernels over large maps become
    matrix products, which spares the changes of layout around each convolution.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu":
            if not torch.is_grad_enabled():
                x = x.contiguous(memory_format=torch.channels_last)
            elif self._is_product(x):
                return self._product(x)
        return super().forward(x)  # type: ignore[misc]

    def _is_product(self, x: torch.Tensor) -> bool:
        plain = (
            self.kernel_size == self.stride == (1, 1)  # type: ignore[attr-defined]
            and self.padding == (0, 0)  # type: ignore[attr-defined]
            and self.groups == 1  # type: ignore[attr-defined]
            and x.dim() == 4
            and x.shape[2] * x.shape[3] >= _PRODUCT_AREA
            and x.dtype == self.weight.dtype == torch.float32  # type: ignore[attr-defined]
            and x.is_contiguous()
        )
        # Compilers and exporters know convolutions better; mixed precision has fast ones.
        return plain and not (
            torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or torch.is_autocast_enabled("cpu")
        )

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        n, _, height, width = x.shape
        w = self.weight.flatten(1).expand(n, -1, -1)  # type: ignore[attr-defined]
        bias = self.bias  # type: ignore[attr-defined]
        x = x.flatten(2)
        y = torch.bmm(w, x) if bias is None else torch.baddbmm(bias[:, None], w, x)
        return y.unflatten(2, (height, width))


class _BatchNorm(_Torch):
    """Where ``synchronised`` is set, over the images of all ranks; on CPUs, too."""

    synchronised = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.synchronised and self.training and ranks.world().size > 1):  # type: ignore[attr-defined]
            return super().forward(x)  # type: ignore[misc]
        with torch.autocast(x.device.type, enabled=False):
            return self._over_ranks(x.float()).to(x.dtype)

    def _over_ranks(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance, count = batch_statistics(x, batch_split.weight())
        if self.running_mean is not None:  # type: ignore[has-type]
            self._track(mean.detach(), (variance * count / (count - 1)).detach())
        scale = torch.rsqrt(variance + self.eps)  # type: ignore[attr-defined]
        result = (x - mean[:, None, None]) * scale[:, None, None]
        weight, bias = self.weight, self.bias  # type: ignore[attr-defined]
        if weight is None:
            return result
        return result * weight[:, None, None] + bias[:, None, None]

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self.num_batches_tracked.add_(1)  # type: ignore[attr-defined]
        share = self.momentum  # type: ignore[attr-defined]
        if share is None:
            share = 1 / float(self.num_batches_tracked)  # type: ignore[attr-defined]
        self.running_mean.lerp_(mean, share)  # type: ignore[attr-defined]
        self.running_var.lerp_(variance, share)  # type: ignore[attr-defined]


class _GroupNorm(_Torch):
    """Also for groups of one value: one channel a group, on a level of one pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight, self.bias  # type: ignore[attr-defined]
        return ops_network.group_norm(x, self.num_groups, weight, bias, self.eps)  # type: ignore[attr-defined]


_DRAWN = {
    **{"Conv2d": _Convolution, "Linear": _Blank, "Embedding": _Blank},
    "BatchNorm2d": _BatchNorm,
    "GroupNorm": _GroupNorm,
}
_BASES: dict[str, tuple[type, ...]] = {"Module": (_Torch, torch.nn.Module)}
for _name in _LAYERS:
    _BASES[_name] = (_DRAWN.get(_name, _Torch), getattr(torch.nn, _name))


def bases(layer: str) -> tuple[type, ...]:
    """Native base classes of ``layer``; ``"Module"`` is a plain module."""
    return _BASES[layer]


def parameter(array: np.ndarray) -> torch.nn.Parameter:
    """A parameter that holds a copy of ``array``."""
    return torch.nn.Parameter(_copied(array))


def _copied(array: Any) -> torch.Tensor:
    # On torch's default device, as the other tensors of its layers are.
    return torch.from_numpy(np.array(array)).to(torch.get_default_device())


def parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """All parameters by name, tied ones once."""
    return dict(model.named_parameters())


def is_trainable(value: torch.Tensor) -> bool:
    """Whether gradients reach ``value``."""
    return value.requires_grad


def set_trainable(module: torch.nn.Module, name: str, trainable: bool) -> None:
    """Lets gradients reach the parameter ``name`` of ``module``, or not."""
    module.get_parameter(name).requires_grad_(trainable)


def arrays(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Copies of all parameters and persistent buffers by name."""
    return {name: to_array(value) for name, value in model.state_dict().items()}


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters and persistent buffers by name."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def to_array(value: torch.Tensor) -> np.ndarray:
    """A copy on the host; bfloat16, which NumPy lacks, becomes float32."""
    value = value.detach()
    if value.dtype == torch.bfloat16:
        value = value.float()
    return np.array(value.cpu().numpy(), order="C")


def write(model: torch.nn.Module, name: str, array: np.ndarray) -> None:
    """Copies ``array`` into the tensor ``name`` of ``model``, keeping its dtype and device."""
    owner, _, leaf = name.rpartition(".")
    target = getattr(model.get_submodule(owner), leaf)
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(target.shape))


def to_device(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """Moves ``model`` and returns it; the first move to a GPU turns TF32 off."""
    if torch.device(device).type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                "Invalid value for `device`. Expected 'cpu': PyTorch found no usable CUDA. "
                f"Received {device!r}."
            )
        precision.use_full_float32()
    return model.to(device)


def compiled(model: torch.nn.Module) -> Any:
    """See :func:`unidet.backends.nn.compiled`."""
    return torch.compile(model)


def device_of(model: torch.nn.Module) -> str:
    """``"cpu"`` or ``"cuda"``: where the parameters are."""
    return next((value.device.type for value in model.parameters()), "cpu")


def seed(value: int) -> None:
    """Seeds torch's generators."""
    torch.manual_seed(value)
