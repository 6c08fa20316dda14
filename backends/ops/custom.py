"""Operations registered by users, with an implementation for each backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from unidet.backends import registry
from unidet.backends.names import suggestion

_REGISTERED: dict[str, Callable[..., Any]] = {}


def register(
    name: str, implementations: Mapping[str, str | Callable[..., Any]]
) -> Callable[..., Any]:
    """See :func:`unidet.register_op`.

    Raises:
        ValueError: the name is taken, no implementation, or a backend that does not exist.
    """
    from unidet.backends import ops

    if name in _REGISTERED or name in ops.__all__:
        raise ValueError(
            f"Invalid name of an operation. Expected one that is free. Received {name!r}."
        )
    if not implementations:
        raise ValueError(f"Missing implementations of {name}. Expected torch=... and jittor=...")
    for backend in implementations:
        registry.check_name(backend)
    resolved: dict[str, Callable[..., Any]] = {}

    def operation(*args: Any, **kwargs: Any) -> Any:
        backend = _backend(name, (*args, *kwargs.values()))
        if backend not in resolved:
            if backend not in implementations:
                raise ValueError(
                    f"Invalid backend for {name}. Expected one of {', '.join(implementations)}. "
                    f"Received {backend!r}."
                )
            resolved[backend] = _function(implementations[backend])
        return resolved[backend](*args, **kwargs)

    operation.__name__ = operation.__qualname__ = name
    _REGISTERED[name] = operation
    return operation


def registered(name: str) -> Callable[..., Any]:
    """An operation of a plugin.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in _REGISTERED:
        raise ValueError(
            f"Unknown operation {name!r}. Expected one of {', '.join(_REGISTERED) or 'none'}."
            f"{suggestion(name, _REGISTERED)}"
        )
    return _REGISTERED[name]


def _backend(name: str, values: tuple[Any, ...]) -> str:
    found = None
    for value in values:
        items = value if isinstance(value, (list, tuple)) else (value,)
        for item in items:
            try:
                backend = registry.backend_of(item)
            except TypeError:
                continue
            if backend != "numpy":
                return backend
            found = backend
    if found is None:
        raise TypeError(f"Invalid arguments of {name}. Expected a tensor among them.")
    return found


def _function(implementation: str | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(implementation, str):
        return implementation
    module, _, attribute = implementation.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found
