"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unidet.backends import nn, ops


class Ema:
    """Averages the parameters after every step, on the device where they live.

    ``average = decay * average + (1 - decay) * parameter`` with ``decay`` limited to
    ``(1 + step) / (10 + step)``, so that the average leaves the random start behind quickly (Tan
    and Le 2019, in TensorFlow's form). Buffers are those of the model.

    Args:
        model: a model of either backend.
        decay: weight of the past.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.model, self.decay = model, decay
        self._average = {
            name: ops.asarray(ops.to_numpy(value), like=value)
            for name, value in nn.trainable(model).items()
        }

    def update(self, step: int) -> None:
        """Takes in the parameters after optimizer step ``step``, counted from 1."""
        keep = min(self.decay, (1 + step) / (10 + step))
        with ops.no_grad():
            for name, value in nn.trainable(self.model).items():
                self._average[name] = self._average[name] * keep + ops.detach(value) * (1 - keep)
                # Jittor would otherwise keep the whole history as an unevaluated chain.
                ops.sync(self._average[name])

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Weights and buffers of the averaged model, complete."""
        arrays = nn.state_arrays(self.model)
        arrays.update({name: ops.to_numpy(value) for name, value in self._average.items()})
        return arrays

    def load_state_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continues from an earlier :meth:`state_arrays`."""
        for name, value in nn.trainable(self.model).items():
            self._average[name] = ops.asarray(arrays[name], like=value)
