"""Native tensors in and NumPy out, without importing a framework that is not asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends import registry


def tensor(backend: str, array: np.ndarray) -> Any:
    """A native tensor that holds a copy of ``array``."""
    if backend == "torch":
        import torch

        return torch.tensor(np.array(array))
    return registry.implementation("jittor", "module").as_var(np.asarray(array))


def host(value: Any) -> np.ndarray:
    """The values of a native tensor."""
    return np.array(value.detach().cpu().numpy() if hasattr(value, "detach_") else value.numpy())


def backward(backend: str, output: Any, inputs: list[Any], weights: np.ndarray) -> list[np.ndarray]:
    """Gradients of ``(output * weights).sum()``."""
    loss = (output * tensor(backend, weights)).sum()
    if backend == "torch":
        import torch

        return [host(g) for g in torch.autograd.grad(loss, inputs)]
    jt = registry.implementation("jittor", "environment").load()
    return [host(g) for g in jt.grad(loss, inputs)]
