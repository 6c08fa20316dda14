"""torch's own optimizers behind the neutral interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from unidet.backends.optim import STATE, Group, Optimizer
from unidet.backends.parallel import ranks
from unidet.backends.torch.distributed import failures_named
from unidet.backends.torch.nn import to_array

_CLASSES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class TorchOptimizer(Optimizer):
    """Wraps ``torch.optim``; the wrapped one is ``native``."""

    def __init__(self, name: str, groups: list[Group]) -> None:
        super().__init__(name, groups)
        specs = [
            {"params": list(group.parameters.values()), "lr": group.lr, **group.options}
            for group in groups
        ]
        # Adam in one pass over memory is several times as fast. SGD gains nothing, and torch's
        # fused form fails where some parameters have a momentum buffer and others do not yet.
        options = {} if name == "sgd" else {"fused": True}
        self.native = _CLASSES[name](specs, lr=groups[-1].lr, **options)
        self._scaler: torch.amp.GradScaler | None = None

    def backward(self, loss: torch.Tensor) -> None:
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        if ranks.world().size == 1:
            loss.backward()
            return
        with failures_named():
            loss.backward()

    def average_gradients(self) -> None:
        """``DistributedDataParallel`` has done so in the backward pass."""

    def scale_losses(self, device: str) -> None:
        self._scaler = torch.amp.GradScaler(device)

    def unscale(self) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(self.native)

    @property
    def loss_scale(self) -> float:
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    def scaling(self) -> dict[str, float]:
        if self._scaler is None:
            return {}
        state = self._scaler.state_dict()
        return {"scale": float(state["scale"]), "steps": float(state["_growth_tracker"])}

    def restore_scaling(self, state: Mapping[str, float]) -> None:
        if self._scaler is not None and state:
            found = {"scale": state["scale"], "_growth_tracker": int(state["steps"])}
            self._scaler.load_state_dict({**self._scaler.state_dict(), **found})

    def gradients(self) -> dict[str, torch.Tensor]:
        return {name: p.grad for name, p in self.parameters.items() if p.grad is not None}

    def clip_grad_norm(self, max_norm: float) -> torch.Tensor:
        return torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), max_norm)

    def step(self) -> None:
        if self._scaler is None:
            self.native.step()
            return
        self._scaler.step(self.native)
        self._scaler.update()

    def zero_grad(self) -> None:
        self.native.zero_grad(set_to_none=True)

    def set_lr_scale(self, scale: float) -> None:
        super().set_lr_scale(scale)
        for group, native in zip(self.groups, self.native.param_groups):
            native["lr"] = group.lr * self.lr_scale

    def _read_state(self) -> dict[str, dict[str, np.ndarray]]:
        result: dict[str, dict[str, np.ndarray]] = {key: {} for key in STATE[self.name]}
        for name, p in self.parameters.items():
            for key, value in self.native.state.get(p, {}).items():
                if key in result and value is not None:
                    array = to_array(value)
                    result[key][name] = array.astype(np.int64) if key == "step" else array
        return result

    def _write_state(self, state: dict[str, dict[str, np.ndarray]]) -> None:
        self.native.state.clear()
        for name, p in self.parameters.items():
            if name in state:
                self.native.state[p] = {
                    key: _tensor(key, array, p) for key, array in state[name].items()
                }


def _tensor(key: str, array: np.ndarray, parameter: torch.Tensor) -> Any:
    if key == "step":
        return torch.tensor(float(array))
    # In the layout of the parameter: fused rules walk through the memory of both alike.
    value = torch.empty_like(parameter, requires_grad=False)
    return value.copy_(torch.from_numpy(np.array(array, np.float32)).reshape(parameter.shape))


def make(name: str, groups: list[Group]) -> TorchOptimizer:
    """The optimizer ``name`` over ``groups``."""
    return TorchOptimizer(name, groups)
