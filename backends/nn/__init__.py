"""Modules and layers, written once.

::

    class Net(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.cls = nn.Linear(8, classes)

        def forward(self, images): ...

    net = Net(10, backend="jittor")     # a jittor.Module; with "torch", a torch.nn.Module

The functions below work on the modules of either framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from unidet.backends.names import suggestion
from unidet.backends.nn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Embedding,
    FrozenBatchNorm2d,
    GroupNorm,
    Identity,
    LayerNorm,
    Linear,
    MaxPool2d,
    ModuleList,
    ReLU,
    Sequential,
)
from unidet.backends.nn.module import Module, initial_seed, initialize
from unidet.backends.registry import backend_of, implementation, resolve

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Embedding",
    "FrozenBatchNorm2d",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "Linear",
    "LoadReport",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "StateMismatchError",
    "compiled",
    "freeze",
    "initial_seed",
    "initialize",
    "load_arrays",
    "parameters",
    "shapes",
    "state_arrays",
    "synchronise_norms",
    "device_of",
    "to_device",
    "trainable",
    "unfreeze",
]


class StateMismatchError(ValueError):
    """Arrays do not fit a model; the message lists every name that is at fault."""


@dataclass
class LoadReport:
    """What :func:`load_arrays` did.

    Attributes:
        loaded: names whose values were taken.
        missing: names of the model without an array.
        unexpected: names of arrays without a place in the model.
        mismatched: ``(name, shape in the model, shape received)``.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every tensor was loaded and nothing was left over."""
        return not (self.missing or self.unexpected or self.mismatched)

    def error(self) -> StateMismatchError:
        """The error that says what does not fit."""
        groups = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "mismatched": [f"{n} (model {a}, received {b})" for n, a, b in self.mismatched],
        }
        lines = [f"{len(n)} {group}: {', '.join(n)}" for group, n in groups.items() if n]
        return StateMismatchError("Arrays do not fit the model. " + ". ".join(lines) + ".")

    def check_known(self) -> None:
        """Raises unless every array found its place; missing ones are allowed."""
        if self.unexpected or self.mismatched:
            self.missing = []
            raise self.error()


def Parameter(array: Any) -> Any:
    """A trainable tensor, to be made an attribute inside a constructor.

    Args:
        array: its initial value, of a floating dtype.
    """
    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"Invalid value for `array`. Expected a floating dtype. Received {array.dtype}."
        )
    return _backend(resolve()).parameter(array)


def parameters(model: Any) -> dict[str, Any]:
    """All parameters by name, in order of registration; tied ones once, buffers never."""
    return _of(model).parameters(model)


def trainable(model: Any) -> dict[str, Any]:
    """Those parameters that are not frozen."""
    native = _of(model)
    return {n: value for n, value in native.parameters(model).items() if native.is_trainable(value)}


def freeze(model: Any, *prefixes: str) -> Any:
    """Stops the training of parameters, until :func:`unfreeze`; ``train()`` does not revive them.

    Args:
        model: a model or a part of one.
        prefixes: which parameters, by the start of their names; none means all.

    Returns:
        ``model``.

    Raises:
        ValueError: a prefix fits no parameter.
    """
    return _set_trainable(model, prefixes, False)


def unfreeze(model: Any, *prefixes: str) -> Any:
    """The opposite of :func:`freeze`."""
    return _set_trainable(model, prefixes, True)


def _set_trainable(model: Any, prefixes: tuple[str, ...], value: bool) -> Any:
    native = _of(model)
    names = list(native.parameters(model))
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(
                "Invalid value for `prefixes`. Expected the start of a parameter's name. "
                f"Received {prefix!r}.{suggestion(prefix, names)}"
            )
    for name in names:
        if not prefixes or name.startswith(prefixes):
            native.set_trainable(model, name, value)
    return model


def state_arrays(model: Any) -> dict[str, np.ndarray]:
    """Copies of all parameters and persistent buffers, by torch's names, on the host."""
    return _of(model).arrays(model)


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of what :func:`state_arrays` returns, without copying anything."""
    return _of(model).shapes(model)


def load_arrays(model: Any, arrays: Mapping[str, np.ndarray], strict: bool = True) -> LoadReport:
    """Copies ``arrays`` into the model, cast to the dtype of each tensor.

    Args:
        model: native module of either framework.
        arrays: values by name, as from :func:`state_arrays`.
        strict: raise unless names and shapes agree in full. Otherwise what fits is loaded.

    Raises:
        StateMismatchError: strict, and something does not fit; nothing was written.
    """
    native = _of(model)
    state = native.shapes(model)
    report = LoadReport(
        missing=[name for name in state if name not in arrays],
        unexpected=[name for name in arrays if name not in state],
    )
    for name, expected in state.items():
        if name in arrays:
            received = tuple(np.shape(arrays[name]))
            if expected == received:
                report.loaded.append(name)
            else:
                report.mismatched.append((name, expected, received))
    if strict and not report.complete:
        raise report.error()
    for name in report.loaded:
        native.write(model, name, np.asarray(arrays[name]))
    return report


def to_device(model: Any, device: str) -> Any:
    """Moves ``model`` to ``"cpu"`` or ``"cuda"`` and returns it."""
    return _of(model).to_device(model, device)


def synchronise_norms(model: Any) -> Any:
    """Makes batch normalization of ``model`` take its statistics over the images of all ranks.

    It matters in training alone, and where there are several ranks. Returns ``model``.
    """
    norms: list[Any] = [m for _, m in model.named_modules() if isinstance(m, BatchNorm2d)]
    for norm in norms:
        norm.synchronised = True
    return model


def compiled(model: Any) -> Any:
    """``model`` as a callable that PyTorch compiles at its first call, for each form of input.

    Weights, losses and everything else stay those of ``model``.

    Raises:
        ValueError: the model is not PyTorch's.
    """
    return _of(model).compiled(model)


def device_of(model: Any) -> str:
    """``"cpu"`` or ``"cuda"``: where ``model`` computes."""
    return _of(model).device_of(model)


def _backend(name: str) -> ModuleType:
    return implementation(name, "nn")


def _of(model: Any) -> ModuleType:
    return _backend(backend_of(model))
