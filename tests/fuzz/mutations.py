"""How inputs are damaged: bytes of a file, values of a document."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

#: Values that readers have choked on. Factories, since some are large and all may be changed.
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, -1e308, float("nan"), float("inf"),
    2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**100, 10**400, -(10**400),
    "", " ", "0", "1", "x", "-1", "1e5", "nan", "true", "\0", "a\0b", "\ud800", "\u202e", "\ufeff",
    "../../x", "/etc/passwd", "/dev/zero", "\\", "a\\b", "é", "e\u0301", "类别", "x" * 300,
    "x" * 5000, "9" * 5000, [], {}, [[]], [0], [None], {"": 0}, {"id": 1}, [1, 2, 3, 4],
    [1, 2], [0, 0, 0, 0], [1, 2, -3, 4], ["1", "2", "3", "4"], [1e308] * 4, [10**400] * 4,
)  # fmt: skip


def strange() -> st.SearchStrategy[Any]:
    """A value of a wrong type, sign, size or depth."""
    return st.one_of(
        st.sampled_from(STRANGE).map(copy.deepcopy),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.integers(1, 3).map(lambda n: _nested(10**n)),
    )


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def mutated(document: Any, changes: int = 3) -> st.SearchStrategy[Any]:
    """Copies of a JSON-like document with some values replaced, removed, repeated or renamed."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> Any:
        result = copy.deepcopy(document)
        for _ in range(draw(st.integers(1, changes))):
            result = _change(draw, result)
        return result

    return draw_one()


def _change(draw: st.DrawFn, document: Any) -> Any:
    places = list(_places(document))
    if not places:
        return draw(strange())
    parent, key = draw(st.sampled_from(places)) if len(places) > 1 else places[0]
    kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "repeat", "rename")))
    if kind == "replace":
        parent[key] = draw(strange())
    elif kind == "remove":
        del parent[key]
    elif isinstance(parent, list):
        parent.insert(key, _copied(parent[key]))
    elif kind == "rename":
        parent[draw(st.text(max_size=8))] = parent.pop(key)
    else:
        parent[f"{key}2"] = _copied(parent[key])
    return document


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except RecursionError:  # one of the values that are nested deep
        return value


def _places(document: Any, depth: int = 8) -> Iterator[tuple[Any, Any]]:
    if depth == 0:
        return
    keys: Sequence[Any] = ()
    if isinstance(document, dict):
        keys = list(document)
    elif isinstance(document, list):
        keys = range(len(document))
    for key in keys:
        yield document, key
        yield from _places(document[key], depth - 1)


def mutated_bytes(*seeds: bytes, changes: int = 4) -> st.SearchStrategy[bytes]:
    """One of the seeds with some bytes changed, cut, repeated, inserted or swapped about."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(seeds)) if len(seeds) > 1 else seeds[0])
        for _ in range(draw(st.integers(1, changes))):
            _damage(draw, data, seeds)
        return bytes(data)

    return draw_one()


_PIECES = (
    b"\0",
    b"\xff",
    b"\x80",
    b"\n",
    b"{",
    b"[",
    b"\x7f" * 8,
    b"\xff" * 8,
    b"\0" * 8,
    b"9" * 9,
)


def _damage(draw: st.DrawFn, data: bytearray, seeds: Sequence[bytes]) -> None:
    # Headers are short and decide most: half of the changes fall into the first or last bytes.
    size = len(data)
    head = draw(st.sampled_from(("anywhere", "head", "tail", "anywhere")))
    low = max(0, size - 128) if head == "tail" else 0
    high = min(size, 256) if head == "head" else size
    at = draw(st.integers(min(low, high), max(low, high)))
    length = draw(st.sampled_from((1, 1, 2, 4, 8, 64, 1000)))
    kind = draw(st.sampled_from(("set", "set", "flip", "cut", "end", "insert", "repeat", "splice")))
    if kind == "set":
        data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
    elif kind == "flip" and at < size:
        data[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == "cut":
        del data[at : at + length]
    elif kind == "end":
        del data[at:]
    elif kind == "insert":
        data[at:at] = draw(st.sampled_from(_PIECES))
    elif kind == "repeat":
        data[at:at] = data[at : at + length]
    elif kind == "splice":
        other = draw(st.sampled_from(tuple(seeds)))
        start = draw(st.integers(0, len(other)))
        data[at : at + length] = other[start : start + length]
