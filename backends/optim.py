"""Optimizers with torch's update rules on both frameworks and a state of plain arrays."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import nn
from unidet.backends.names import suggestion
from unidet.backends.registry import backend_of, implementation

#: Names of the optimizers, their options and torch's defaults.
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0},
    "adam": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
    "adamw": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01},
}

#: Arrays that each optimizer keeps for a parameter.
STATE: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq", "step"),
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
}


@dataclass
class Group:
    """Parameters that share their options.

    Attributes:
        parameters: native tensors by name.
        lr: the group's own learning rate, before any schedule.
        options: the other hyperparameters, complete.
    """

    parameters: dict[str, Any]
    lr: float
    options: dict[str, Any]


class Optimizer(abc.ABC):
    """What both frameworks' optimizers offer. Made by :func:`create`.

    Attributes:
        name: "sgd", "adam" or "adamw".
        groups: the parameter groups; the one for all remaining parameters comes last.
        lr_scale: what :meth:`set_lr_scale` set last.
    """

    def __init__(self, name: str, groups: list[Group]) -> None:
        self.name, self.groups = name, groups
        self.lr_scale = 1.0

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters by name, over all groups."""
        return {name: p for group in self.groups for name, p in group.parameters.items()}

    @abc.abstractmethod
    def backward(self, loss: Any) -> None:
        """Adds the gradients of the scalar ``loss`` to those of earlier calls."""

    @abc.abstractmethod
    def average_gradients(self) -> None:
        """Averages the gradients over all ranks, unless backward passes have done so.

        A parameter that the losses of some ranks do not reach has gradient 0 there; one that they
        reach nowhere has none.
        """

    def scale_losses(self, device: str) -> None:
        """From now on multiplies losses, so that gradients in half precision do not vanish.

        The factor doubles every 2000 steps. A step whose gradients are not finite is left out, and
        halves it.

        Raises:
            ValueError: the backend cannot do so.
        """
        raise ValueError("Invalid value for `train.amp`. Expected off. Received 'fp16'.")

    def unscale(self) -> None:  # noqa: B027 (nothing to do without scaling)
        """Divides the gradients by the factor of :meth:`scale_losses`, once in a step."""

    @property
    def loss_scale(self) -> float:
        """The factor of :meth:`scale_losses`; 1 without it."""
        return 1.0

    def scaling(self) -> dict[str, float]:
        """State of :meth:`scale_losses`; empty without it."""
        return {}

    def restore_scaling(self, state: Mapping[str, float]) -> None:  # noqa: B027
        """Goes on from :meth:`scaling`, where losses are scaled; ``{}`` changes nothing."""

    @abc.abstractmethod
    def gradients(self) -> dict[str, Any]:
        """Accumulated gradients by parameter name, of those parameters that have one."""

    @abc.abstractmethod
    def clip_grad_norm(self, max_norm: float) -> Any:
        """Scales all gradients by ``min(1, max_norm / (norm + 1e-6))``.

        Returns:
            The 2-norm of all gradients together, before, as a scalar tensor.
        """

    @abc.abstractmethod
    def step(self) -> None:
        """Updates the parameters that have a gradient."""

    @abc.abstractmethod
    def zero_grad(self) -> None:
        """Forgets the gradients."""

    @abc.abstractmethod
    def _read_state(self) -> dict[str, dict[str, np.ndarray]]:
        """Arrays by key and then parameter."""

    @abc.abstractmethod
    def _write_state(self, state: dict[str, dict[str, np.ndarray]]) -> None:
        """Replaces the whole state by checked arrays, by parameter and then key."""

    def set_lr_scale(self, scale: float) -> None:
        """Sets each group's learning rate to ``scale`` times its own."""
        if not scale >= 0:
            raise ValueError(f"Invalid value for `scale`. Expected >= 0. Received {scale!r}.")
        self.lr_scale = float(scale)

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The state as copies on the host, such as ``"exp_avg/head.cls.weight"``.

        Parameters that were never updated have none. Learning rates and other options are not
        part of it. The arrays fit the same optimizer on the other framework.
        """
        return {
            f"{key}/{name}": array
            for key, arrays in self._read_state().items()
            for name, array in arrays.items()
        }

    def load_state_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replaces the state by that of :meth:`state_arrays`; ``{}`` starts afresh.

        Raises:
            ValueError: an array belongs to no parameter or has the wrong shape, or a parameter
                has a part of its state only. Nothing was changed then.
        """
        parameters, wanted = self.parameters, STATE[self.name]
        state: dict[str, dict[str, np.ndarray]] = {}
        for full, array in arrays.items():
            key, _, name = full.partition("/")
            if key not in wanted or name not in parameters:
                known = [f"{k}/{n}" for k in wanted for n in parameters]
                raise ValueError(
                    f"Invalid value for `arrays`. Expected names such as {known[0]!r}. "
                    f"Received {full!r}.{suggestion(full, known)}"
                )
            shape = () if key == "step" else tuple(parameters[name].shape)
            # Jittor's scalars have the shape (1,).
            scalar = shape in ((), (1,)) and np.size(array) == 1
            if not scalar and np.shape(array) != shape:
                raise ValueError(
                    f"Invalid value for `{full}`. Expected shape {shape}. "
                    f"Received {np.shape(array)}."
                )
            state.setdefault(name, {})[key] = np.asarray(array)
        for name, part in state.items():
            if len(part) != len(wanted):
                raise ValueError(
                    f"Invalid value for `arrays`. Expected {', '.join(wanted)} for {name!r}. "
                    f"Received only {', '.join(part)}."
                )
        self._write_state(state)


def create(
    name: str,
    model: Any,
    *,
    lr: float,
    groups: Sequence[Mapping[str, Any]] | None = None,
    decay_biases: bool = True,
    **options: Any,
) -> Optimizer:
    """Makes an optimizer over all parameters of ``model``.

    Frozen parameters are part of it and rest until they are unfrozen.

    Args:
        name: "sgd", "adam" or "adamw", with torch's update rules and defaults.
        model: native module of either framework.
        lr: learning rate.
        groups: options for some parameters, each a mapping with the key ``match`` (the starts of
            names) and any of ``lr`` and the optimizer's options. The first group that matches a
            parameter has it; the rest follow the general options.
        decay_biases: whether biases and norms, the parameters of one dimension, decay too.
        options: ``momentum, dampening, nesterov, weight_decay`` for sgd;
            ``betas, eps, weight_decay`` for adam and adamw.

    Raises:
        ValueError: unknown name or option, a value out of range, a prefix that matches no
            parameter, or a group that is left without one.
    """
    if name not in DEFAULTS:
        raise ValueError(
            f"Invalid value for `name`. Expected one of {', '.join(DEFAULTS)}. "
            f"Received {name!r}.{suggestion(name, DEFAULTS)}"
        )
    general = _options(name, {**DEFAULTS[name], "lr": lr}, options)
    remaining = nn.parameters(model)
    if not remaining:
        raise ValueError(
            "Invalid value for `model`. Expected a model with parameters. Received one without."
        )
    everything = list(remaining)
    result = []
    for spec in groups or ():
        given = dict(spec)
        prefixes = _prefixes(given.pop("match", ()), everything)
        matched = {n: p for n, p in remaining.items() if n.startswith(prefixes)}
        if not matched:
            raise ValueError(
                "Invalid value for `groups`. Expected at least one parameter in each group. "
                f"Received {list(prefixes)}, whose parameters earlier groups hold."
            )
        remaining = {n: p for n, p in remaining.items() if n not in matched}
        result += _groups(matched, _options(name, general, given), decay_biases)
    if remaining:
        result += _groups(remaining, general, decay_biases)
    return implementation(backend_of(model), "optim").make(name, result)


def _groups(parameters: dict[str, Any], options: dict[str, Any], decay_biases: bool) -> list[Group]:
    parts = [(parameters, dict(options))]
    if not decay_biases and options["weight_decay"]:
        flat = {n: p for n, p in parameters.items() if len(p.shape) < 2}
        rest = {n: p for n, p in parameters.items() if n not in flat}
        parts = [(flat, {**options, "weight_decay": 0.0}), (rest, dict(options))]
    return [Group(part, own.pop("lr"), own) for part, own in parts if part]


def _prefixes(match: Any, names: list[str]) -> tuple[str, ...]:
    prefixes = (match,) if isinstance(match, str) else tuple(match)
    if not prefixes:
        raise ValueError("Invalid value for `match`. Expected starts of names. Received none.")
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(
                f"Invalid value for `match`. Expected the start of a parameter's name. Received "
                f"{prefix!r}.{suggestion(prefix, names)}"
            )
    return prefixes


def _options(name: str, base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``given`` on top, checked."""
    for key in given:
        if key not in base:
            raise ValueError(
                f"Invalid option for {name}. Expected {', '.join(base)}. "
                f"Received {key!r}.{suggestion(key, base)}"
            )
    options = {**base, **given}
    for key in ("lr", "weight_decay", "eps", "momentum"):
        value = options.get(key, 0.0)
        if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise ValueError(
                f"Invalid value for `{key}`. Expected a number >= 0. Received {value!r}."
            )
    if "betas" in options:
        betas = options["betas"] = tuple(options["betas"])
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"Invalid value for `betas`. Expected two numbers in [0, 1). Received {betas!r}."
            )
    if options.get("nesterov") and (options["momentum"] == 0 or options["dampening"] != 0):
        raise ValueError(
            "Invalid value for `nesterov`. Expected momentum > 0 and dampening 0 with it. Received "
            f"momentum={options['momentum']}, dampening={options['dampening']}."
        )
    return options
