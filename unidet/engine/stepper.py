"""One optimizer step: forward, losses, backward, clipping, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from unidet.backends import nn, ops, random
from unidet.backends.registry import backend_of, implementation
from unidet.models.calling import outputs_of
from unidet.structures import Batch

#: Looks at the losses of a step before its update and may raise.
Check = Callable[[Mapping[str, float]], None]


class Stepper:
    """Trains a model of either backend by one step at a time.

    Args:
        model: the model.
        optimizer: of :mod:`unidet.backends.optim`.
        clip_grad_norm: largest norm of the gradient, or None.
        amp: "off" or "bf16".
        device: "cpu" or "cuda".

    Raises:
        ValueError: the backend cannot do ``amp``.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        *,
        clip_grad_norm: float | None = None,
        amp: str = "off",
        device: str = "cpu",
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.clip_grad_norm = clip_grad_norm
        self._like = next(iter(nn.parameters(model).values()))
        self._autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        if amp == "bf16":
            make = implementation(backend_of(model), "precision").autocast_bf16
            make(device)  # refuses before the run begins
            self._autocast = lambda: make(device)

    def outputs(self, batch: Batch) -> dict[str, Any]:
        """Raw outputs for a batch, in single precision; the model's mode is left as it is."""
        with self._autocast():
            outputs: dict[str, Any] = _float32(outputs_of(self.model, batch, like=self._like))
        return outputs

    def step(self, batches: Sequence[Batch], lr_scale: float, check: Check) -> dict[str, float]:
        """Averages the gradients of ``batches`` and updates the weights once.

        Args:
            batches: micro-batches that count as one.
            lr_scale: of the schedule.
            check: receives the values before the update.

        Returns:
            ``loss``, ``loss/PART`` and, with clipping, ``grad_norm`` before it.
        """
        self.optimizer.zero_grad()
        totals: dict[str, float] = {}
        for index, batch in enumerate(batches):
            with random.within(index):
                parts = self.model.losses(self.outputs(batch), batch.targets)
            share = 1 / len(batches)
            terms = [value if share == 1 else value * share for value in parts.values()]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            self.optimizer.backward(total)
            values = fetch([total, *terms])
            for name, value in zip(("loss", *map(_short, parts)), values):
                totals[name] = totals.get(name, 0.0) + value
        if self.clip_grad_norm is not None:
            norm = self.optimizer.clip_grad_norm(self.clip_grad_norm)
            totals["grad_norm"] = fetch([norm])[0]
        check(totals)
        self.optimizer.set_lr_scale(lr_scale)
        self.optimizer.step()
        return totals


def fetch(scalars: Sequence[Any]) -> list[float]:
    """Values of scalar tensors, brought to the host together."""
    stacked = ops.stack([ops.reshape(ops.detach(value), (1,)) for value in scalars], axis=0)
    return [float(value) for value in ops.to_numpy(stacked).reshape(-1)]


def _short(name: str) -> str:
    return "loss/" + name.removeprefix("loss_")


def _float32(value: Any) -> Any:
    """Outputs of an autocast region, back in the precision that losses need."""
    if isinstance(value, Mapping):
        return {name: _float32(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_float32(item) for item in value)
    if isinstance(value, (int, float, str, bool)) or value is None:
        return value
    try:
        kind = ops.dtype(value)
    except TypeError:
        return value
    return ops.cast(value, "float32") if kind in ("bfloat16", "float16") else value
