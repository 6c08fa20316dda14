"""Jittor's module class with torch's behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from unidet.backends.jittor import jt

_MARK = "unidet_parameter"


class RemovableHandle:
    """Removes one hook: ``handle.remove()``."""

    def __init__(self, hooks: dict[int, Callable[..., Any]], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Takes the hook away; doing it twice is harmless."""
        self._hooks.pop(self._key, None)


def parameter(array: np.ndarray) -> Any:
    """A Var that modules register as a parameter."""
    value = as_var(array)
    # A leaf made under no_grad would stay without a gradient for good.
    value.start_grad()
    setattr(value, _MARK, array.shape)
    return value


def as_var(array: np.ndarray) -> Any:
    """A Var of the array's own dtype: Jittor would narrow 64 bits."""
    return jt.array(np.ascontiguousarray(array), dtype=str(array.dtype))


class JittorModule(jt.Module):
    """A ``jittor.Module`` that knows parameters from buffers.

    Jittor takes every attribute of type Var for a parameter, trains buffers, stops the gradient
    of parameters on ``eval()``, loads what it likes of a state and has one hook. Not so here.
    """

    def __init__(self) -> None:
        self.__dict__.update(
            is_train=True,
            _parameter_shapes={},
            _buffer_persistence={},
            _forward_hooks={},
            _hook_count=0,
        )

    # -- attributes ----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        shapes = self.__dict__.get("_parameter_shapes")
        if isinstance(value, (jt.Var, jt.Module)) or (shapes and name in shapes):
            if shapes is None:
                raise AttributeError(
                    f"Cannot set `{name}` yet. Call super().__init__() first in the constructor."
                )
            shape = getattr(value, _MARK, None) if isinstance(value, jt.Var) else None
            if shape is not None:
                shapes[name] = shape
            elif name in shapes:
                if value is not None:
                    raise TypeError(
                        f"Invalid value for `{name}`. Expected nn.Parameter or None. "
                        f"Received {type(value).__name__}."
                    )
                del shapes[name]
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._parameter_shapes.pop(name, None)
        self._buffer_persistence.pop(name, None)
        object.__delattr__(self, name)

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """A tensor that belongs to the state and is never trained.

        Scalars stay NumPy arrays, because Jittor has no tensors without dimensions.
        """
        if isinstance(value, (np.ndarray, np.generic)):
            value = np.array(value) if np.ndim(value) == 0 else as_var(np.asarray(value))
        if isinstance(value, jt.Var):
            value.stop_grad()
        self._buffer_persistence[name] = persistent
        object.__setattr__(self, name, value)

    # -- calls ---------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.execute(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            replacement = hook(self, args, result)
            if replacement is not None:
                result = replacement
        return result

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Jittor's name for ``forward``."""
        return self.forward(*args, **kwargs)

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls ``hook(module, args, output)`` after ``forward``; a result replaces the output."""
        self._hook_count += 1
        self._forward_hooks[self._hook_count] = hook
        return RemovableHandle(self._forward_hooks, self._hook_count)

    # -- modes ---------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> JittorModule:
        """Sets the mode of this module and its parts; gradients are left alone."""
        self.is_train = mode
        for _, child in self.named_children():
            # Part by part, as torch does, for a part may hold its norms in evaluation mode.
            child.train(mode)
        return self

    def eval(self) -> JittorModule:
        """``train(False)``."""
        return self.train(False)

    # -- traversal -----------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """Direct parts, each once."""
        seen = set()
        for name, value in self.__dict__.items():
            if isinstance(value, jt.Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> list[Any]:
        """Direct parts, each once."""
        return [module for _, module in self.named_children()]

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """This module under the name "" and all parts, parents first, each once."""
        return self._walk("", set())

    def modules(self) -> list[Any]:
        """This module and all parts, each once."""
        return [module for _, module in self.named_modules()]

    def _walk(self, prefix: str, seen: set[int] | None) -> Iterator[tuple[str, Any]]:
        """All modules below; with ``seen`` None, shared ones under each of their names."""
        if seen is not None:
            if id(self) in seen:
                return
            seen.add(id(self))
        yield prefix, self
        for name, child in list(self.__dict__.items()):
            if isinstance(child, JittorModule):
                yield from child._walk(f"{prefix}.{name}" if prefix else name, seen)

    def _tensors(self, kind: str, shared: bool = False) -> Iterator[tuple[str, Any, Any]]:
        """``(name, value, note)`` of "_parameter_shapes" or "_buffer_persistence"."""
        for prefix, module in self._walk("", None if shared else set()):
            for name, note in getattr(module, kind).items():
                value = module.__dict__.get(name)
                if value is not None:
                    yield f"{prefix}.{name}" if prefix else name, value, note

    def named_parameters(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """Parameters by name, tied ones once, buffers never."""
        seen = set()
        for name, value, _ in self._tensors("_parameter_shapes"):
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> list[Any]:  # type: ignore[override]
        """Parameters, each once."""
        return [value for _, value in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """Buffers by name."""
        for name, value, _ in self._tensors("_buffer_persistence"):
            yield name, value

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """Parameters and persistent buffers by torch's names, live, in torch's order."""
        state = {}
        for prefix, module in self._walk("", None):
            start = f"{prefix}." if prefix else ""
            persistent = [n for n, keep in module._buffer_persistence.items() if keep]
            for name in (*module._parameter_shapes, *persistent):
                if module.__dict__.get(name) is not None:
                    state[start + name] = module.__dict__[name]
        return state

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> Any:  # type: ignore[override]
        """Copies values in; strict by default, and then all or nothing.

        Args:
            state: Vars, arrays or torch tensors by name.

        Raises:
            StateMismatchError: strict, and names or shapes do not fit.
        """
        from unidet.backends import nn

        def host(value: Any) -> np.ndarray:
            if isinstance(value, jt.Var):
                return value.numpy()
            return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)

        arrays = {name: host(value) for name, value in state.items()}
        for name, shape in nn.shapes(self).items():
            # A Var cannot say that it stands for a scalar.
            if shape == () and isinstance(state.get(name), jt.Var):
                arrays[name] = arrays[name].reshape(())
        return nn.load_arrays(self, arrays, strict)

    def load_parameters(self, params: dict[str, Any]) -> None:
        """Jittor's name for a strict :meth:`load_state_dict`, which ``load(path)`` uses."""
        self.load_state_dict(params)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_frozen"] = [
            name for name in self._parameter_shapes if getattr(self, name).is_stop_grad()
        ]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        frozen = state.pop("_frozen")
        self.__dict__.update(state)
        # Copies of Vars lose their marks and whether gradients reach them.
        for name, shape in self._parameter_shapes.items():
            value = self.__dict__[name]
            setattr(value, _MARK, shape)
            value.stop_grad() if name in frozen else value.start_grad()
        for name in self._buffer_persistence:
            if isinstance(self.__dict__[name], jt.Var):
                self.__dict__[name].stop_grad()

    def extra_repr(self) -> str:
        """Shapes of the own parameters."""
        return ", ".join(f"{name}={list(shape)}" for name, shape in self._parameter_shapes.items())
