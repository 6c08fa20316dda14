"""Modules that choose their framework when they are made.

A class derives from :class:`Module` and knows no framework. Making an instance derives, once for
each class and backend, a native subclass of both it and the framework's module class, so that the
instance *is* a ``torch.nn.Module`` or a ``jittor.Module``.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.backends import random, registry

#: What :meth:`Module.initial_values` receives: the generator of one parameter, by its own name.
Draw = Callable[[str], np.random.Generator]

_fresh: ContextVar[list[Any] | None] = ContextVar("unidet_fresh_modules", default=None)
_seed: ContextVar[int | None] = ContextVar("unidet_initial_seed", default=0)


@contextmanager
def initial_seed(seed: int | None) -> Iterator[None]:
    """Models made inside the block start from ``seed``; ``None`` leaves layers at zero.

    ``None`` saves the time where weights are loaded right after.
    """
    token = _seed.set(seed)
    try:
        yield
    finally:
        _seed.reset(token)


def check_layer(kind: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Refuses a layer whose weights have no size, or more than the machine's memory.

    Raises:
        ValueError: names the layer, its sizes and what was expected.
    """
    if kind not in ("Linear", "Conv2d", "Embedding") or len(args) < 2:
        return
    side = args[2] if kind == "Conv2d" and len(args) > 2 else options.get("kernel_size", 1)
    area = side[0] * side[1] if isinstance(side, tuple) else side * side
    sizes = (int(args[0]), int(args[1]))
    if min(sizes) < 1:
        raise ValueError(f"Invalid sizes of a {kind} layer. Expected 1 or more. Received {sizes}.")
    groups = options.get("groups", 1)
    size = 4 * sizes[0] * sizes[1] * (area if kind == "Conv2d" else 1) // groups
    if size > _memory():
        raise ValueError(
            f"Invalid sizes of a {kind} layer: {sizes[0]} by {sizes[1]} need "
            f"{size / 1e9:.3g} GB, more than this machine's memory of {_memory() / 1e9:.3g} GB. "
            "Expected fewer classes or channels."
        )


@functools.lru_cache(maxsize=1)
def _memory() -> int:
    """Bytes of memory of the machine; without an answer, no limit."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


class ModuleMeta(type):
    """Replaces a neutral class by its native subclass at the moment of the call."""

    _natives: dict[str, type]
    _backend: str | None
    constructor_arguments: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        cls._natives = {}

    if not TYPE_CHECKING:  # checkers read the signature of ``__init__`` instead

        def __call__(cls, *args: Any, backend: str | None = None, **kwargs: Any) -> Any:
            owner = cls._backend
            if owner is not None and backend not in (None, owner):
                raise ValueError(
                    f"Invalid value for `backend`. Expected {owner!r}, the framework of this "
                    f"class. Received {backend!r}."
                )
            args, kwargs = cls.constructor_arguments(args, kwargs)
            check_layer(cls.__name__, args, kwargs)
            name = owner or registry.resolve(backend)
            kind = native_class(cls, name)
            enclosing = _fresh.get()
            fresh = [] if enclosing is None else enclosing
            token = _fresh.set(fresh)
            try:
                with registry.use(name):
                    module = type.__call__(kind, *args, **kwargs)
            finally:
                _fresh.reset(token)
            fresh.append(module)
            seed = _seed.get()
            if enclosing is None and seed is not None and name in registry.FRAMEWORKS:
                # Modules made earlier and passed in keep the values they have.
                _initialize(module, seed, {id(part) for part in fresh})
            return module


def native_class(cls: ModuleMeta, backend: str) -> type:
    """The subclass of ``cls`` on ``backend``, made on first use."""
    if cls._backend is not None:
        return cls
    kind = cls._natives.get(backend)
    if kind is None:
        implementation = registry.implementation(backend, "nn")
        # The nearest layer that the framework itself implements, else its plain module.
        layer = next((b.__name__ for b in cls.__mro__ if b.__dict__.get("_is_layer")), "Module")
        namespace = {
            "_backend": backend,
            "_neutral": cls,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
        }
        kind = ModuleMeta(cls.__name__, (cls, *implementation.bases(layer)), namespace)
        cls._natives[backend] = kind
    return kind


def neutral_class(module: Any) -> type:
    """The class that the author of ``module`` wrote."""
    return getattr(type(module), "_neutral", type(module))


class Module(metaclass=ModuleMeta):
    """Base of all models and layers. Derive, call ``super().__init__()``, define ``forward``.

    Making an instance takes the extra keyword ``backend``; without it the ambient backend counts
    (:func:`unidet.backends.registry.resolve`). Submodules made inside a constructor follow.
    Right after the outermost constructor, all layers made in it receive their initial values
    (:func:`unidet.backends.nn.initialize`), the same on both frameworks.
    """

    _backend = None

    if TYPE_CHECKING:
        training: bool

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
        def train(self, mode: bool = True) -> Any: ...
        def eval(self) -> Any: ...
        def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None: ...
        def register_forward_hook(self, hook: Callable[..., Any]) -> Any: ...
        def named_parameters(self) -> Iterator[tuple[str, Any]]: ...
        def named_buffers(self) -> Iterator[tuple[str, Any]]: ...
        def named_modules(self) -> Iterator[tuple[str, Any]]: ...
        def named_children(self) -> Iterator[tuple[str, Any]]: ...
        def state_dict(self) -> dict[str, Any]: ...
        def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> Any: ...

    @classmethod
    def constructor_arguments(
        cls, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What ``__init__`` receives for the arguments of a call; a subclass may change it."""
        return args, kwargs

    def initial_values(self, draw: Draw) -> dict[str, np.ndarray]:
        """Initial values of parameters and buffers, by name relative to this module.

        A class overrides this to depart from its layers' defaults: the values of an enclosing
        module win over those of its parts. Names that are left out keep their values.

        Args:
            draw: gives the generator that belongs to a name; it depends on the model's seed and
                the full name only.
        """
        return {}

    def __reduce__(self) -> Any:
        # The native class has no importable name: it is made again from the neutral one.
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _rebuild, (neutral_class(self), type(self)._backend), state


def _rebuild(cls: ModuleMeta, backend: str) -> Any:
    kind: Any = native_class(cls, backend)
    return kind.__new__(kind)


def initialize(model: Any, seed: int) -> None:
    """Gives every parameter of ``model`` its initial value, the same on both frameworks.

    The scheme is torch's default: convolution and linear weights uniform in
    ``±1/sqrt(fan_in)`` (He et al. 2015 with a = sqrt(5)), their biases in the same range,
    embeddings standard normal, norms one and zero with fresh statistics; classes may depart from
    it by :meth:`Module.initial_values`. Each value comes from the stream ``(seed, "init", name)``.
    A bare ``nn.Parameter`` keeps the array that it was made with.
    """
    _initialize(model, seed, None)


def _initialize(model: Any, seed: int, only: set[int] | None) -> None:
    from unidet.backends import nn

    values: dict[str, np.ndarray] = {}
    # Parents come before their children in named_modules, and must have the last word.
    for prefix, module in reversed(list(model.named_modules())):
        if not isinstance(module, Module) or (only is not None and id(module) not in only):
            continue
        start = f"{prefix}." if prefix else ""

        def draw(name: str, start: str = start) -> np.random.Generator:
            return random.stream(seed, "init", start + name)

        for name, value in module.initial_values(draw).items():
            values[start + name] = value
    if values:
        nn.load_arrays(model, values, strict=False).check_known()
