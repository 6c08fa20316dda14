"""Progress of a run: the data, other than tensors, that a resumed run needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unidet.errors import UserError
from unidet.files.numbers import is_id, is_number
from unidet.files.shown import cut, printable, shown


def _is_count(value: Any) -> bool:
    return is_id(value) and value >= 0


def _is_value(value: Any) -> bool:
    # A metric, or the norm of a gradient in half precision, need not be finite.
    return isinstance(value, float) or is_number(value)


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_map(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _is_record(**kinds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """An object with these entries, or an empty one."""
    return lambda value: (
        isinstance(value, dict)
        and (
            not value
            or (value.keys() == kinds.keys() and all(kinds[name](v) for name, v in value.items()))
        )
    )


#: Of each field: what a value must be, and that in words.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("epoch", "batch", "step", "loss_count", "window_count"),
        (_is_count, "a whole number of 0 or more"),
    ),
    "loss_sum": (_is_value, "a number"),
    "epoch_losses": (
        lambda value: isinstance(value, list) and all(map(_is_value, value)),
        "a list of numbers",
    ),
    **dict.fromkeys(("window", "metrics"), (_is_map(_is_value), "an object of numbers")),
    "window_missing": (_is_map(_is_count), "an object of whole numbers"),
    "best": (_or_none(is_number), "a number or null"),
    "best_step": (_or_none(_is_count), "a whole number or null"),
    "evaluated_step": (lambda value: is_id(value) and value >= -1, "a whole number"),
    "plateau": (
        _is_record(scale=is_number, best=_or_none(is_number), bad=_is_count),
        "the state of a schedule",
    ),
    "watch": (
        _is_record(smooth=_or_none(is_number), lowest=_or_none(is_number), count=_is_count),
        "the state of the watch",
    ),
    "scaling": (_is_record(scale=is_number, steps=is_number), "the state of the scaling"),
}


@dataclass
class Progress:
    """Counters and running values, all of them JSON.

    Attributes:
        epoch: epochs finished.
        batch: batches of the unfinished epoch that were used.
        step: optimizer steps taken.
        loss_sum: sum of the losses of the steps of the unfinished epoch.
        loss_count: number of those steps.
        epoch_losses: mean loss of each finished epoch.
        window: sums since the last row of the metrics file.
        window_count: steps in ``window``.
        window_missing: how many of them lacked a value, by its name.
        best: best value so far of the metric that chooses the best checkpoint.
        best_step: step that reached it.
        evaluated_step: step of the latest evaluation.
        metrics: values of the latest evaluation.
        plateau: state of the plateau schedule.
        watch: state of the divergence watch.
        scaling: state of the scaling of losses.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    epoch_losses: list[float] = field(default_factory=list)
    window: dict[str, float] = field(default_factory=dict)
    window_count: int = 0
    window_missing: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    best_step: int | None = None
    evaluated_step: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    plateau: dict[str, Any] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)
    scaling: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], origin: str) -> Progress:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: keys are missing or unknown, or a value is of another kind; names
                ``origin``.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict):
            raise UserError(
                f"Invalid training state {origin}. Expected an object as `progress`. "
                f"Received {shown(values)}."
            )
        # States of earlier versions lack them.
        values = {"scaling": {}, "window_missing": {}, **values}
        if set(values) != known:
            raise UserError(
                f"Invalid training state {origin}. Expected the keys {', '.join(sorted(known))}. "
                f"Received {cut(', '.join(map(printable, sorted(values))) or 'none', 300)}."
            )
        for name, (fits, expected) in _KINDS.items():
            if not fits(values[name]):
                raise UserError(
                    f"Invalid training state {origin}. Expected {expected} as `{name}`. "
                    f"Received {shown(values[name])}."
                )
        return cls(**values)

    def add_loss(self, values: dict[str, float]) -> None:
        """Counts the losses of one step for the epoch and for the metrics file."""
        self.loss_sum += values["loss"]
        self.loss_count += 1
        self.window_count += 1
        # A step in half precision that was left out has no norm of the gradient.
        for name in self.window.keys() - values.keys():
            self.window_missing[name] = self.window_missing.get(name, 0) + 1
        for name in values.keys() - self.window.keys():
            self.window_missing[name] = self.window_count - 1
        for name, value in values.items():
            self.window[name] = self.window.get(name, 0.0) + value

    def take_window(self) -> dict[str, float]:
        """Means since the last call."""
        means = {
            name: total / (self.window_count - self.window_missing.get(name, 0))
            for name, total in self.window.items()
        }
        self.window, self.window_count, self.window_missing = {}, 0, {}
        return means

    def end_epoch(self) -> float:
        """Closes the epoch and returns its mean loss."""
        mean = self.loss_sum / max(self.loss_count, 1)
        self.epoch_losses.append(mean)
        self.epoch, self.batch, self.loss_sum, self.loss_count = self.epoch + 1, 0, 0.0, 0
        return mean
