"""Which frameworks exist, which one is meant, and where their implementations live.

Nothing here imports torch or jittor until an implementation is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

#: Backends that train, in the order in which they are offered.
FRAMEWORKS = ("torch", "jittor")
#: All backends; ``numpy`` is the forward-only reference.
NAMES = (*FRAMEWORKS, "numpy")

ENVIRONMENT_VARIABLE = "UNIDET_BACKEND"

_ambient: ContextVar[str | None] = ContextVar("unidet_backend", default=None)
_by_type: dict[type, str] = {}


class BackendNotAvailableError(ImportError):
    """The framework behind a backend is not installed."""


def available() -> tuple[str, ...]:
    """Names of the frameworks that are installed, found without importing them."""
    return tuple(name for name in FRAMEWORKS if importlib.util.find_spec(name) is not None)


def check_name(name: str, allowed: tuple[str, ...] = NAMES) -> str:
    """Returns ``name`` if it is a backend, else raises ``ValueError``."""
    if name not in allowed:
        raise ValueError(
            f"Invalid value for `backend`. Expected one of {', '.join(allowed)}. Received {name!r}."
        )
    return name


def resolve(name: str | None = None) -> str:
    """The training backend that is meant.

    ``"numpy"``, given as ``name``, means modules that hold shapes alone.

    The first that is set wins: ``name``, an enclosing :func:`use`, the environment variable
    ``UNIDET_BACKEND``, the only framework installed.

    Raises:
        ValueError: unknown name, or both frameworks are installed and nothing chooses.
        BackendNotAvailableError: the chosen framework is not installed.
    """
    if (name or _ambient.get()) == "numpy":
        return "numpy"
    chosen = name or _ambient.get() or os.environ.get(ENVIRONMENT_VARIABLE)
    installed = available()
    if chosen is None:
        if len(installed) == 1:
            return installed[0]
        if installed:
            raise ValueError(
                f"No backend chosen and {' and '.join(installed)} are both installed. Choose one: "
                f"--backend torch or --backend jittor on the command line, backend='torch' in "
                f"Python, or the environment variable {ENVIRONMENT_VARIABLE}."
            )
        raise BackendNotAvailableError(
            "Neither torch nor jittor is installed. Install one: pip install 'unidet[torch]' "
            "or pip install 'unidet[jittor]'."
        )
    check_name(chosen, FRAMEWORKS)
    if chosen not in installed:
        raise BackendNotAvailableError(
            f"Backend {chosen!r} is not installed. Install it: pip install 'unidet[{chosen}]'."
        )
    return chosen


@contextlib.contextmanager
def use(name: str | None) -> Iterator[str]:
    """Makes ``name`` the backend of the modules and tensors created inside the block."""
    resolved = resolve(name)
    token = _ambient.set(resolved)
    try:
        yield resolved
    finally:
        _ambient.reset(token)


def implementation(backend: str, part: str = "ops") -> ModuleType:
    """The module ``unidet.backends.<backend>.<part>``, imported on first use."""
    check_name(backend)
    module = f"{__package__}.{backend}.{part}"
    return sys.modules.get(module) or importlib.import_module(module)


def backend_of(value: Any) -> str:
    """Name of the backend whose native tensor or module ``value`` is.

    Raises:
        TypeError: ``value`` belongs to no backend.
    """
    kind = type(value)
    name = _by_type.get(kind)
    if name is None:
        name = _by_type[kind] = backend_of_type(kind)
    return name


def backend_of_type(kind: type) -> str:
    """Name of the backend that a class of tensors or modules belongs to."""
    own: str | None = getattr(kind, "_backend", None)  # modules know it themselves
    if own is not None:
        return own
    # A framework that was never imported cannot own the value.
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("torch", "numpy"):
            return root
        if root in ("jittor", "jittor_core"):
            return "jittor"
    raise TypeError(
        "Invalid tensor. Expected torch.Tensor, jittor.Var or numpy.ndarray. "
        f"Received {kind.__module__}.{kind.__qualname__}."
    )
