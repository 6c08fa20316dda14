"""torch's update rules on Jittor.

Jittor's own optimizers damp the first step, misplace Adam's epsilon, count calls of ``backward`` as
steps and move parameters that the loss does not reach. Here every parameter, whatever its shape,
goes through one flat fused kernel for each rule; hyperparameters enter as data, so that a schedule
compiles nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unidet.backends.jittor import jt
from unidet.backends.jittor.module import as_var
from unidet.backends.optim import STATE, Group, Optimizer
from unidet.backends.parallel import ranks


class JittorOptimizer(Optimizer):
    """SGD, Adam and AdamW over ``jittor.Var``. State and gradients are kept flat."""

    def __init__(self, name: str, groups: list[Group]) -> None:
        super().__init__(name, groups)
        self._gradients: dict[str, Any] = {}
        self._state: dict[str, dict[str, Any]] = {}

    def backward(self, loss: Any) -> None:
        targets = {name: p for name, p in self.parameters.items() if not p.is_stop_grad()}
        if loss.is_stop_grad() or not targets:
            raise ValueError(
                "Invalid value for `loss`. Expected a tensor that depends on a parameter that is "
                "not frozen. Received one without gradient."
            )
        found = jt.grad(loss, list(targets.values()))
        found = _reached(dict(zip(targets, found)), loss)
        for name, gradient in found.items():
            # Not fused with what made it, or each layer would compile an addition of its own.
            flat = gradient.stop_grad().stop_fuse().reshape(-1)
            before = self._gradients.get(name)
            self._gradients[name] = (flat if before is None else before + flat).stop_grad()
        # Everything the step computed, so that no graph outlives it.
        jt.sync_all()

    def average_gradients(self) -> None:
        world = ranks.world()
        if world.size == 1:
            return
        names = [name for name, p in self.parameters.items() if not p.is_stop_grad()]
        reached = world.sum(np.array([name in self._gradients for name in names], np.float64))
        averaged = {}
        # The same operations in the same order on all ranks, whatever each has computed.
        for name, count in zip(names, reached):
            if count:
                own = self._gradients.get(name)
                if own is None:
                    size = math.prod(self.parameters[name].shape)
                    own = as_var(np.zeros(size, np.float32))
                averaged[name] = own.mpi_all_reduce("mean").stop_grad()
                averaged[name].sync()
        self._gradients = averaged

    def scale_losses(self, device: str) -> None:
        raise ValueError(
            "Invalid value for `train.amp`. Expected off, because jittor has no scaling of losses "
            f"(asked for on {device}). Received 'fp16'. Use backend torch, or train.amp=off."
        )

    def gradients(self) -> dict[str, Any]:
        parameters = self.parameters
        return {
            name: flat.reshape(parameters[name].shape) for name, flat in self._gradients.items()
        }

    def clip_grad_norm(self, max_norm: float) -> Any:
        # Jittor adds float32 up one by one; in double the sum is exact enough for any size.
        squares = [_square_sum(flat) for flat in self._gradients.values()]
        if not squares:
            return as_var(np.zeros(1, np.float32))
        norm = jt.sqrt(jt.concat(squares).sum())
        scale = as_var(np.array([max_norm], np.float64)) / (norm + 1e-6)
        # By comparison and not jt.minimum, which would turn NaN into 1.
        scale = jt.ternary(scale > 1, jt.ones_like(scale), scale)
        scale = scale.float32().stop_grad().stop_fuse()
        for name, flat in self._gradients.items():
            self._gradients[name] = (flat * scale).stop_grad()
        return norm.float32()

    def step(self) -> None:
        update = self._sgd if self.name == "sgd" else self._adam
        changed = []
        with jt.no_grad():
            for group in self.groups:
                scalars: dict[int, list[Any]] = {}
                for name, p in group.parameters.items():
                    gradient = self._gradients.get(name)
                    if gradient is None or p.is_stop_grad():
                        continue
                    value = update(group, scalars, name, p.reshape(-1), gradient)
                    p.update(value.reshape(p.shape))
                    changed.append(p)
            jt.sync_all()
        for p in changed:
            # A value made under no_grad is stopped, and passes that on.
            p.start_grad()

    def zero_grad(self) -> None:
        self._gradients = {}

    def _sgd(
        self, group: Group, scalars: dict[int, list[Any]], name: str, p: Any, gradient: Any
    ) -> Any:
        options = group.options
        momentum = options["momentum"]
        if not scalars:
            values = (
                group.lr * self.lr_scale,
                options["weight_decay"],
                momentum,
                1 - options["dampening"],
            )
            scalars[0] = _scalars(values)
        lr, decay, keep, take = scalars[0]
        if options["weight_decay"]:
            gradient = gradient + p * decay
        if momentum:
            state = self._state.setdefault(name, {})
            buffer = state.get("momentum_buffer")
            # The first buffer is the gradient itself, without dampening.
            buffer = gradient * 1.0 if buffer is None else buffer * keep + gradient * take
            state["momentum_buffer"] = buffer
            gradient = gradient + buffer * keep if options["nesterov"] else buffer
        return p - gradient * lr

    def _adam(
        self, group: Group, scalars: dict[int, list[Any]], name: str, p: Any, gradient: Any
    ) -> Any:
        options = group.options
        first, second = options["betas"]
        state = self._state.get(name)
        if state is None:
            zeros = as_var(np.zeros(p.shape[0], np.float32))
            state = self._state[name] = {"exp_avg": zeros, "exp_avg_sq": zeros, "step": 0}
        state["step"] += 1
        step = state["step"]
        if step not in scalars:
            rate = group.lr * self.lr_scale
            decay = options["weight_decay"]
            scalars[step] = _scalars(
                (
                    1 - first,
                    second,
                    1 - second,
                    rate / (1 - first**step),
                    1 / math.sqrt(1 - second**step),
                    options["eps"],
                    1 - rate * decay if self.name == "adamw" else decay,
                )
            )
        take, keep_sq, take_sq, rate, correction, eps, decay = scalars[step]
        if options["weight_decay"]:
            if self.name == "adamw":
                p = p * decay
            else:
                gradient = gradient + p * decay
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        state["exp_avg"] = mean = mean + (gradient - mean) * take
        state["exp_avg_sq"] = square = square * keep_sq + gradient * gradient * take_sq
        return p - mean / (jt.sqrt(square) * correction + eps) * rate

    def _read_state(self) -> dict[str, dict[str, np.ndarray]]:
        result: dict[str, dict[str, np.ndarray]] = {key: {} for key in STATE[self.name]}
        for name, p in self.parameters.items():
            for key, value in self._state.get(name, {}).items():
                if key == "step":
                    result[key][name] = np.array(value, np.int64)
                else:
                    result[key][name] = np.array(value.numpy()).reshape(_declared(p))
        return result

    def _write_state(self, state: dict[str, dict[str, np.ndarray]]) -> None:
        self._state = {
            name: {
                key: int(array)
                if key == "step"
                else as_var(np.asarray(array, np.float32).reshape(-1)).stop_grad()
                for key, array in part.items()
            }
            for name, part in state.items()
        }


def _declared(p: Any) -> tuple[int, ...]:
    """The shape that the model's author gave a parameter: () where Jittor makes it (1,)."""
    return tuple(getattr(p, "unidet_parameter", p.shape))


def _scalars(values: tuple[float, ...]) -> list[Any]:
    return [as_var(np.array([value], np.float32)).stop_grad().stop_fuse() for value in values]


def _square_sum(flat: Any) -> Any:
    wide = flat.float64()
    return (wide * wide).sum()


#: Tells for each address of a Var whether it is a broadcast constant (1), a constant of one element
#: (2) or anything else (0).
_KIND = r"""
for (int64_t i = 0; i < in0_shape0; i++) {
    Var* value = reinterpret_cast<Var*>(in0_p[i]);
    Op* op = value->input();
    out0_p[i] = 0;
    if (op == nullptr) continue;
    const std::string name = op->name();
    if (name == "array" && value->num == 1) out0_p[i] = 2;
    if (name != "broadcast_to" || op->inputs().size() != 1) continue;
    Var* source = op->inputs().front();
    if (source->num == 1 && source->input() && std::string(source->input()->name()) == "array")
        out0_p[i] = 1;
}
"""


def _reached(gradients: dict[str, Any], loss: Any) -> dict[str, Any]:
    """Leaves out parameters that the loss does not depend on.

    ``jt.grad`` gives them zeros, with which weight decay and momentum would go on moving them. Such
    zeros are a constant 0 that is broadcast and younger than the loss, which no computed gradient
    is, be it zero or not. The constant is looked for in the graph, before anything is executed.
    """
    addresses = as_var(np.array([value.var_ptr for value in gradients.values()], np.int64))
    kinds = jt.code(addresses.shape, "int32", [addresses], cpu_src=_KIND)
    # Weakly synced, the gradients would be computed before they are looked at.
    kinds.sync(False, False)
    sources = {
        name: value._input(0) if kind == 1 else value
        for (name, value), kind in zip(gradients.items(), kinds.numpy())
        if kind
    }
    made_up = {
        name for name, source in sources.items() if source.id > loss.id and source.item() == 0
    }
    return {name: value for name, value in gradients.items() if name not in made_up}


def make(name: str, groups: list[Group]) -> JittorOptimizer:
    """The optimizer ``name`` over ``groups``."""
    return JittorOptimizer(name, groups)
