"""What :mod:`unidet.backends.nn` needs of Jittor: its classes, and access to their tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.layers import BASES
from unidet.backends.jittor.module import JittorModule, as_var, parameter

__all__ = [
    "arrays",
    "bases",
    "is_trainable",
    "parameter",
    "parameters",
    "seed",
    "set_trainable",
    "shapes",
    "device_of",
    "to_device",
    "write",
]


def bases(layer: str) -> tuple[type, ...]:
    """Native base classes of ``layer``; ``"Module"`` is a plain module."""
    return (BASES[layer],)


def parameters(model: JittorModule) -> dict[str, Any]:
    """All parameters by name, tied ones once."""
    return dict(model.named_parameters())


def is_trainable(value: Any) -> bool:
    """Whether gradients reach ``value``."""
    return not value.is_stop_grad()


def set_trainable(model: JittorModule, name: str, trainable: bool) -> None:
    """Lets gradients reach the parameter ``name`` of ``model``, or not."""
    value = model.state_dict()[name]
    value.start_grad() if trainable else value.stop_grad()


def arrays(model: JittorModule) -> dict[str, np.ndarray]:
    """Copies of all parameters and persistent buffers by name."""
    known = shapes(model)
    return {
        name: np.array(value.numpy() if isinstance(value, jt.Var) else value).reshape(known[name])
        for name, value in model.state_dict().items()
    }


def shapes(model: JittorModule) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters and persistent buffers by name, scalars without dimensions."""
    declared = {name: note for name, _, note in model._tensors("_parameter_shapes", shared=True)}
    return {
        name: tuple(declared.get(name, value.shape)) for name, value in model.state_dict().items()
    }


def write(model: JittorModule, name: str, array: np.ndarray) -> None:
    """Copies ``array`` into the tensor ``name`` of ``model``, keeping its dtype."""
    owner: Any = model
    *path, leaf = name.split(".")
    for part in path:
        owner = owner.__dict__[part]
    target = owner.__dict__[leaf]
    if not isinstance(target, jt.Var):
        object.__setattr__(owner, leaf, np.array(array, dtype=target.dtype))
        return
    stopped = target.is_stop_grad()
    value = as_var(np.asarray(array, dtype=str(target.dtype)).reshape(tuple(target.shape)))
    # A pending array would be fused with what reads it first, and that be compiled apart.
    value.sync()
    target.update(value)
    # The flag comes along with the value, and under no_grad every new Var is stopped.
    target.stop_grad() if stopped else target.start_grad()


def to_device(model: JittorModule, device: str) -> JittorModule:
    """Chooses where Jittor computes; the choice is the process's, not the model's."""
    if device not in ("cpu", "cuda"):
        raise ValueError(
            f"Invalid value for `device`. Expected 'cpu' or 'cuda'. Received {device!r}."
        )
    if device == "cuda" and not jt.has_cuda:
        raise ValueError(
            "Invalid value for `device`. Expected 'cpu': Jittor found no usable CUDA. "
            "Received 'cuda'."
        )
    jt.flags.use_cuda = int(device == "cuda")
    return model


def compiled(model: JittorModule) -> Any:
    """Refuses: Jittor compiles by itself.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        "Invalid value for `train.compile`. Expected false, because jittor compiles all by itself. "
        "Received true. Use backend torch, or train.compile=false."
    )


def device_of(model: JittorModule) -> str:
    """``"cpu"`` or ``"cuda"``: where the process computes."""
    return "cuda" if jt.flags.use_cuda else "cpu"


def seed(value: int) -> None:
    """Seeds Jittor's generators, and no others."""
    jt.set_seed(value)
