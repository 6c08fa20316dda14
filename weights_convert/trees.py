"""The flat state inside a nested checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import CheckpointError

#: Keys under which training tools put the weights, the most telling first.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params")
#: What data-parallel wrappers put before every name.
PARALLEL_PREFIX = "module."
_MAX_TENSORS = 200_000


@dataclass
class State:
    """One flat state and where it was found.

    Attributes:
        arrays: Tensors by name.
        wrapper: Keys that lead to it, outermost first.
        prefix: What was peeled off every name.
        extras: Entries beside the tensors, at any level that was peeled.
    """

    arrays: dict[str, np.ndarray]
    wrapper: tuple[str, ...] = ()
    prefix: str = ""
    extras: dict[str, Any] = field(default_factory=dict)


def peel(tree: Mapping[str, Any], *, source: str = "the checkpoint") -> State:
    """Finds the weights in a checkpoint's content.

    Args:
        tree: Content as read by :func:`unidet.weights_convert.read_container`.
        source: Name of the file, for messages.

    Raises:
        CheckpointError: there is no tensor, or several states and no way to tell which is meant.
    """
    wrapper: list[str] = []
    extras: dict[str, Any] = {}
    while not _has_tensor(tree):
        inner = {key: item for key, item in tree.items() if _holds_tensors(item)}
        known = [key for key in WRAPPERS if key in inner]
        if not inner:
            raise CheckpointError(f"Invalid checkpoint {source}. Expected tensors. Received none.")
        if not known and len(inner) > 1:
            break
        chosen = known[0] if known else next(iter(inner))
        extras.update((key, item) for key, item in tree.items() if key != chosen)
        wrapper.append(str(chosen))
        tree = tree[chosen]
    arrays = dict(tensors(tree))
    extras.update((key, item) for key, item in tree.items() if not _holds_tensors(item))
    prefix = PARALLEL_PREFIX
    if not all(name.startswith(prefix) and name != prefix for name in arrays):
        prefix = ""
    stripped = {name[len(prefix) :]: array for name, array in arrays.items()}
    return State(stripped, tuple(wrapper), prefix, extras)


def tensors(tree: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """All arrays of a tree, depth first, named by their keys joined with dots."""
    for count, item in enumerate(_walk(tree, path)):
        if count >= _MAX_TENSORS:
            raise CheckpointError(f"Invalid checkpoint. It holds more than {_MAX_TENSORS} tensors.")
        yield item


def _walk(tree: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, np.ndarray):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, (list, tuple)):
        for i, item in enumerate(tree):
            yield from _walk(item, f"{path}.{i}" if path else str(i))


def _has_tensor(tree: Mapping[str, Any]) -> bool:
    return any(isinstance(item, np.ndarray) for item in tree.values())


def _holds_tensors(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return True
    return isinstance(item, Mapping) and next(_walk(item, ""), None) is not None
