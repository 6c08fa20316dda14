"""One training step of a two-stage model: losses, gradients and samples."""

from __future__ import annotations

from typing import Any

from unidet.backends import nn, ops
from unidet.structures import Batch


def step(model: Any, batch: Batch, sampled: Any = None) -> tuple[dict, dict, Any]:
    """Losses and gradients in training mode, and the samples."""
    weights = nn.trainable(model)
    losses: dict[str, Any] = {}
    kept: list[Any] = [sampled]

    def total(*_: Any) -> Any:
        outputs = model.run(batch)
        if kept[0] is None:
            kept[0] = model.training_targets(outputs, batch.targets)
        losses.update(model.losses(outputs, batch.targets, kept[0]))
        first, *others = losses.values()
        for value in others:
            first = first + value
        return first

    model.train()
    _, gradients = ops.grad(total, list(weights.values()))
    model.eval()
    values = {name: float(ops.item(value)) for name, value in losses.items()}
    return values, {name: ops.to_numpy(g) for name, g in zip(weights, gradients)}, kept[0]
