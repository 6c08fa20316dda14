"""From stand-ins to plain values: dictionaries, lists, numbers, text and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.files.shown import cut, printable, shown

from ..errors import CheckpointError
from .info import ContainerInfo
from .numpy_stand_ins import Array, DType, Scalar
from .rescue import Settings, Stub, module_parts
from .stand_ins import Marker, TensorRef

_PLAIN = (str, bytes, int, float, complex, bool, type(None))
_MAX_NODES = 2_000_000
_MAX_DEPTH = 100
#: Bits of the largest integer that is kept.
_MAX_BITS = 1024
#: Characters of the path to a value, as notes show it.
_PATH = 200
#: Tensors may share values in the file; together they may not grow beyond this multiple of it.
_MAX_GROWTH = 16
_SMALL = 1 << 28


#: Sets and lists of protocol 2 are spelt as calls.
_LISTS = {
    "collections.Counter",
    *(f"builtins.{name}" for name in ("list", "dict", "tuple", "set", "frozenset")),
    *(f"__builtin__.{name}" for name in ("list", "dict", "tuple", "set", "frozenset")),
}


class Dropped:
    """Marks a value that has no plain form."""


_DROPPED = Dropped()


class Resolver:
    """Turns what an unpickler made into plain values.

    Args:
        info: Takes notes of what was left out or widened.
    """

    def __init__(self, info: ContainerInfo) -> None:
        self._info = info
        self._done: dict[int, tuple[Any, Any]] = {}
        self._active: set[int] = set()
        self._nodes = self._depth = 0
        self._sizes: dict[int, int] = {}
        self._dropped: list[str] = []
        self._widened = 0
        self._bytes_left = max(_MAX_GROWTH * info.size, _SMALL)

    def run(self, tree: Any) -> Any:
        """The plain value of ``tree``; adds notes to the container's."""
        value = self._visit(tree, "")
        if self._widened:
            self._info.notes.append(
                f"{self._widened} bfloat16 tensors were widened to float32 (exact)"
            )
        if self._dropped:
            named = printable(", ".join(self._dropped[:8]))
            more = f" and {len(self._dropped) - 8} more" if len(self._dropped) > 8 else ""
            self._info.notes.append(f"left out, not plain data: {named}{more}")
        return None if value is _DROPPED else value

    def _visit(self, value: Any, path: str) -> Any:
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            self._dropped.append(path or "the whole content")
            return _DROPPED
        if isinstance(value, _PLAIN):
            self._count(1)
            return value
        if id(value) in self._done:
            # Readers walk a shared value each time they meet it, so it counts each time.
            self._count(self._sizes[id(value)])
            return self._done[id(value)][1]
        if id(value) in self._active:
            raise CheckpointError(f"the entry {path or 'at the top'} contains itself")
        if self._depth >= _MAX_DEPTH:
            raise CheckpointError(f"its values are nested deeper than {_MAX_DEPTH} levels")
        self._active.add(id(value))
        self._depth += 1
        before = self._nodes
        self._count(1)
        plain = self._convert(value, path)
        self._depth -= 1
        self._active.discard(id(value))
        self._sizes[id(value)] = self._nodes - before
        self._done[id(value)] = (value, plain)  # holds the value, so that its id stays taken
        return plain

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > _MAX_NODES:
            raise CheckpointError(f"it holds more than {_MAX_NODES} values, shared ones each time")

    def _convert(self, value: Any, path: str) -> Any:
        if isinstance(value, TensorRef):
            self._widened += value.dtype == "bfloat16"
        if isinstance(value, (TensorRef, Array)):
            self._bytes_left -= value.nbytes
            if self._bytes_left < 0:
                raise CheckpointError("its tensors repeat values until they outgrow the file")
            return value.array()
        if isinstance(value, Scalar):
            return value.value
        if isinstance(value, Marker):
            return value.name
        if isinstance(value, DType):
            return str(value.resolve())
        if isinstance(value, Settings) and isinstance(value.state, dict):
            return self._dict(value.state, path)
        if isinstance(value, Stub) and value.class_name in _LISTS and value.arguments:
            return self._visit(value.arguments[0], path)
        if isinstance(value, Stub):
            return self._module(value, path)
        if isinstance(value, dict):
            return self._dict(value, path)
        if isinstance(value, (list, tuple, set, frozenset)):
            items = [self._visit(item, cut(f"{path}[{i}]", _PATH)) for i, item in enumerate(value)]
            items = [None if item is _DROPPED else item for item in items]
            return tuple(items) if isinstance(value, tuple) else items
        self._dropped.append(path or "the whole content")
        return _DROPPED

    def _dict(self, value: dict[Any, Any], path: str) -> dict[Any, Any]:
        plain = {}
        for key, item in value.items():
            huge = isinstance(key, int) and key.bit_length() > _MAX_BITS
            if huge or not isinstance(key, _PLAIN):
                self._dropped.append(f"{path}.<{type(key).__name__}>")
                continue
            name = shown(key)[1:-1] if isinstance(key, str) else shown(key)
            found = self._visit(item, cut(f"{path}.{name}" if path else name, _PATH))
            if found is not _DROPPED:
                plain[key] = found
        return plain

    def _module(self, stub: Stub, path: str) -> Any:
        parts = module_parts(stub)
        if parts is None:
            self._dropped.append(f"{path or 'the whole content'} ({stub.class_name})")
            return _DROPPED
        tensors, children = parts
        flat: dict[str, Any] = {}
        if any(not isinstance(name, str) for name in (*tensors, *children)):
            raise CheckpointError(f"the module {path or 'at the top'} has names that are no text")
        for name, item in tensors.items():
            found = self._visit(item, cut(f"{path}.{name}", _PATH)) if item is not None else None
            if isinstance(found, np.ndarray):
                flat[str(name)] = found
        for name, child in children.items():
            inner = self._visit(child, cut(f"{path}.{name}", _PATH)) if child is not None else None
            if isinstance(inner, dict):
                flat.update((f"{name}.{key}", array) for key, array in inner.items())
        return flat
