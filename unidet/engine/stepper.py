"""One optimizer step: forward, losses, backward, clipping, update."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.parallel import batch_split, ranks
from unidet.backends.registry import backend_of, implementation
from unidet.structures import Batch

#: Looks at the losses of a step before its update and may raise.
Check = Callable[[Mapping[str, float]], None]
#: A loss scale below this says that gradients are not finite, whatever the scale.
LEAST_SCALE = 1e-6


class Stepper:
    """Trains a model of either backend by one step at a time.

    A step takes one batch, however it is computed: by the ranks of a job, each of which has a part
    of it, and by micro-batches one after the other. All give the same losses and weights, but for
    the statistics of norms that each part takes of itself.

    Args:
        model: the model.
        optimizer: of :mod:`unidet.backends.optim`.
        clip_grad_norm: largest norm of the gradient, or None.
        amp: "off", "bf16" or "fp16".
        device: "cpu" or "cuda".
        compiled: let PyTorch compile the network.

    Raises:
        ValueError: the backend cannot do ``amp`` or ``compiled``.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        *,
        clip_grad_norm: float | None = None,
        amp: str = "off",
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.clip_grad_norm = clip_grad_norm
        self._like = next(iter(nn.parameters(model).values()))
        self._autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._scaled = amp == "fp16"
        if amp != "off":
            precision = implementation(backend_of(model), "precision")
            precision.autocast(device, amp)  # refuses before the run begins
            precision.lay_out(model)
            self._autocast = lambda: precision.autocast(device, amp)
        if self._scaled and optimizer is not None:
            optimizer.scale_losses(device)
        self._network = nn.compiled(model) if compiled else model
        self._losses: ranks.Losses = self._own_losses
        self._gathering: Callable[[], AbstractContextManager[Any]] = nullcontext
        if optimizer is not None:
            self._losses, self._gathering = ranks.averaging(model, self._own_losses)

    def outputs(self, batch: Batch) -> dict[str, Any]:
        """Raw outputs for a batch, in single precision; the model's mode is left as it is."""
        with self._autocast():
            outputs = self.model.run(batch, like=self._like, network=self._network)
        found: dict[str, Any] = _float32(outputs)
        return found

    def _own_losses(self, batch: Batch) -> dict[str, Any]:
        found: dict[str, Any] = self.model.losses(self.outputs(batch), batch.targets)
        return found

    def step(self, batches: Sequence[Batch], lr_scale: float, check: Check) -> dict[str, float]:
        """Averages the gradients of ``batches``, over all ranks, and updates the weights once.

        Args:
            batches: micro-batches that count as one; all ranks hand in equally many.
            lr_scale: of the schedule.
            check: receives the values before the update.

        Returns:
            ``loss``, ``loss/PART`` and, with clipping, ``grad_norm`` before it; those of the whole
            batch on every rank.
        """
        world = ranks.world()
        batches = _of_one_size(batches, world)
        places = _places(batches)
        parts = len(batches) * world.size
        totals = self._counts(batches, places, world) if len(batches) > 1 else None
        self.optimizer.zero_grad()
        names: list[str] = []
        sums = np.zeros(0)
        for index, (batch, first) in enumerate(zip(batches, places)):
            weight = _weight(batch)
            gathers = index + 1 < len(batches)
            with (
                batch_split.part(parts, first, weight=weight, totals=totals, add=world.add),
                self._gathering() if gathers else nullcontext(),
            ):
                found = self._losses(batch)
                share = weight / len(batches)
                terms = [value if share == 1 else value * share for value in found.values()]
                total = terms[0]
                for term in terms[1:]:
                    total = total + term
                self.optimizer.backward(total)
            names = ["loss", *map(_short, found)]
            values = np.array(fetch([total, *terms]))
            sums = values if not index else sums + values
        self.optimizer.average_gradients()
        return self._update(dict(zip(names, world.sum(sums) / world.size)), lr_scale, check)

    def _counts(
        self, batches: Sequence[Batch], places: Sequence[int], world: ranks.World
    ) -> dict[str, float]:
        """What the losses of the whole batch are divided by, before any of it is computed."""
        notes: dict[str, float] = {}
        for batch, first in zip(batches, places):
            with batch_split.counting(notes, first, _weight(batch)), self._autocast():
                self.model.count(batch, like=self._like)
        sites = sorted(notes)
        return dict(zip(sites, world.sum(np.array([notes[site] for site in sites])).tolist()))

    def _update(
        self, values: Mapping[str, float], lr_scale: float, check: Check
    ) -> dict[str, float]:
        totals = {name: float(value) for name, value in values.items()}
        if self._scaled:
            self.optimizer.unscale()
        if self.clip_grad_norm is not None:
            norm = fetch([self.optimizer.clip_grad_norm(self.clip_grad_norm)])[0]
            # A loss scale that was too high is lowered and its step left out: no divergence.
            if np.isfinite(norm) or not self._scaled:
                totals["grad_norm"] = norm
        if self._scaled and self.optimizer.loss_scale < LEAST_SCALE:
            totals["grad_norm"] = float("nan")
        check(totals)
        self.optimizer.set_lr_scale(lr_scale)
        self.optimizer.step()
        return totals


def fetch(scalars: Sequence[Any]) -> list[float]:
    """Values of scalar tensors, brought to the host together."""
    stacked = ops.stack([ops.reshape(ops.detach(value), (1,)) for value in scalars], axis=0)
    return [float(value) for value in ops.to_numpy(stacked).reshape(-1)]


def _of_one_size(batches: Sequence[Batch], world: ranks.World) -> Sequence[Batch]:
    """Parts padded as the whole would be: what lies in the padding is background to learn."""
    if len(batches) == world.size == 1:
        return batches
    height, width = (max(sides) for sides in zip(*(b.images.shape[2:] for b in batches)))
    height, width = world.largest((height, width))
    return [batch.padded((height, width)) for batch in batches]


def _places(batches: Sequence[Batch]) -> list[int]:
    """Place of each micro-batch's first image in the batch of all ranks and micro-batches."""
    wholes = [len(batch) if batch.part is None else batch.part.whole for batch in batches]
    starts = itertools.accumulate(wholes[:-1], initial=0)
    return [
        start + (0 if batch.part is None else batch.part.first)
        for start, batch in zip(starts, batches)
    ]


def _weight(batch: Batch) -> float:
    return 0.0 if batch.part is not None and batch.part.stands_in else 1.0


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
