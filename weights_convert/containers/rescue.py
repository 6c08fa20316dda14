"""Inert classes for pickles of whole objects, and the tensors found in them."""

from __future__ import annotations

from typing import Any


class Stub:
    """Takes the place of an object of an unknown class: keeps its state, runs nothing."""

    class_name = "?"

    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        """Accepts whatever the class was made from."""
        made = super().__new__(cls)
        made.state = {}
        made.arguments = args
        return made

    state: Any
    arguments: tuple[Any, ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Stub:
        """A pickle may call what it made; the answer is inert as well."""
        return Stub()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    # What a pickle may do to lists, sets and dictionaries of foreign classes.
    def append(self, item: Any) -> None:
        """Ignored."""

    def extend(self, items: Any) -> None:
        """Ignored."""

    def add(self, item: Any) -> None:
        """Ignored."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class Settings(Stub):
    """Takes the place of an ``argparse.Namespace``: its state is plain settings by name."""


def stub_class(path: str) -> type[Stub]:
    """A new inert class that stands for the global ``path``."""
    return type("Stub", (Stub,), {"class_name": path})


def settings_class(path: str) -> type[Settings]:
    """A new inert class that stands for a class of settings; it belongs to one load alone."""
    return type("Settings", (Settings,), {"class_name": path})


def module_parts(stub: Stub) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Tensors and children of a pickled module, by name; None when it is no module.

    Understands ``torch.nn.Module`` (parameters, buffers and modules in dictionaries of their own)
    and TorchScript objects (all attributes side by side).
    """
    state = stub.state
    if not isinstance(state, dict):
        return None
    if isinstance(state.get("_modules"), dict):
        skipped = _names(state.get("_non_persistent_buffers_set"))
        tensors = dict(state.get("_parameters") or {})
        buffers = state.get("_buffers") or {}
        tensors.update((k, v) for k, v in buffers.items() if k not in skipped)
        return tensors, dict(state["_modules"])
    if stub.class_name.startswith("__torch__"):
        children = {k: v for k, v in state.items() if isinstance(v, Stub)}
        return {k: v for k, v in state.items() if k not in children}, children
    return None


def _names(value: Any) -> set[str]:
    # A pickled set arrives as a set (protocol 4) or as a stub made from a list (protocol 2).
    if isinstance(value, Stub) and value.arguments and isinstance(value.arguments[0], list):
        value = value.arguments[0]
    return (
        {item for item in value if isinstance(item, str)}
        if isinstance(value, (set, list))
        else set()
    )
