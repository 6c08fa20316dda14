"""The flat state inside a nested checkpoint.

Training tools put the weights under keys of their own, beside optimizers, histories and averaged
copies, and put the names of their wrappers before every tensor's name. Here both are undone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unidet.files.shown import printable, shown

from .errors import CheckpointError
from .prefixes import AVERAGED, Arrays, Bare, unwrap

#: Keys under which training tools put the weights, the most telling first.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params"),
    *("module", "weights", "detector"),
)
#: Keys of what lies beside the weights and may hold tensors with their names.
_BESIDE = re.compile(
    r"optim|sched|scaler|momentum|moment_|exp_avg|grad|(^|_)rng|random|hist(ory)?$|metric|"
    r"callbacks|loops|message_hub|hyper_param",
    re.IGNORECASE,
)
#: Keys of models that are trained side by side, each whole by itself.
_ROLES = re.compile(
    r"generator|discriminator|student|teacher|online|target|critic|actor|net_?[gd]$", re.IGNORECASE
)
#: Begin of the note on states that were not taken.
STATES_BESIDE = "the file also holds"
_MAX_TENSORS = 200_000
_LISTED = 8

#: Says what a state is: 2 a whole detector (or the model asked for), 1 a part of one, 0 unknown.
Grade = Callable[[Arrays], int]


@dataclass
class State:
    """One flat state and where it was found.

    Attributes:
        arrays: Tensors by name.
        wrapper: Keys that lead to it, outermost first.
        prefix: What was peeled off every name.
        extras: Entries beside the tensors, at any level that was peeled.
        notes: One line for each choice that was made, and for what was left out.
        names: The file's name of each tensor.
    """

    arrays: dict[str, np.ndarray]
    wrapper: tuple[str, ...] = ()
    prefix: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """A mapping that holds tensors under names with dots, and the keys that lead to it."""

    path: tuple[Any, ...]
    arrays: Arrays

    @property
    def title(self) -> str:
        return ".".join(map(str, self.path))

    @property
    def averaged(self) -> bool:
        return any(AVERAGED.search(str(key)) for key in self.path)

    @property
    def rank(self) -> int:
        last = str(self.path[-1]) if self.path else ""
        return WRAPPERS.index(last) if last in WRAPPERS else len(WRAPPERS)


def find_state(
    tree: Mapping[str, Any],
    *,
    source: str = "the checkpoint",
    wanted: str | None = None,
    grade: Grade | None = None,
) -> State:
    """Finds the weights in a checkpoint's content.

    Args:
        tree: Content as read by :func:`unidet.weights_convert.read_container`.
        source: Name of the file, for messages.
        wanted: The keys, joined with dots, or the prefix of the state to take, where there are
            several.
        grade: Tells what a state is; without it only the prefixes of parallel and compiled models
            are taken off.

    Raises:
        CheckpointError: there is no tensor, or several states and no way to tell which is meant.
    """
    found = _flat_states(tree)
    notes: list[str] = []
    if wanted is not None:
        chosen = [one for one in found if wanted in (one.title, str((one.path or ("",))[-1]))]
        if len(chosen) > 1:
            chosen = [one for one in chosen if one.title == wanted] or chosen[:1]
        if chosen:
            found, wanted = chosen, None
    if wanted is not None:
        have = [(one, unwrap(one.arrays, grade, wanted)) for one in found]
        found = [one for one, bare in have if bare.matched]
        if not found:
            groups = [name for _, bare in have for name in bare.groups]
            raise _unknown(wanted, [*(one.title for one, _ in have if one.path), *groups], source)
    if not found:
        return _nested(tree, source)
    one = _choose(found, tree, grade, source)
    others = [other.title or "its top level" for other in found if other.title != one.title]
    bare = unwrap(one.arrays, grade, wanted)
    if len(bare.rivals) > 1:
        raise _several(bare.rivals, source)
    if others:
        notes.append(_also(others, one.title or "its top level"))
    if one.averaged:
        notes.append(f"{one.title} is an averaged copy (EMA); it was taken")
    if bare.averaged:
        notes.append(_also([bare.averaged], "the model"))
    if bare.left:
        more = f" and {len(bare.left) - _LISTED} more" if len(bare.left) > _LISTED else ""
        names = ", ".join(printable(shown(name)[1:-1]) for name in bare.left[:_LISTED])
        notes.append(f"left out, not part of the weights: {names}{more}")
    wrapper = tuple(map(str, one.path))
    return State(bare.arrays, wrapper, bare.prefix, _extras(tree, one, bare), notes, bare.names)


def tensors(tree: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """All arrays of a tree, depth first, named by their keys joined with dots."""
    for count, item in enumerate(_walk(tree, path)):
        if count >= _MAX_TENSORS:
            raise CheckpointError(f"Invalid checkpoint. It holds more than {_MAX_TENSORS} tensors.")
        yield item


def _flat_states(tree: Mapping[str, Any]) -> list[_Found]:
    """Every mapping that holds tensors under dotted names, but for optimizers and their like."""
    found: list[_Found] = []
    seen: set[int] = set()
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), tree)]
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Mapping):
            if "param_groups" in node:
                continue
            arrays = {
                key: item
                for key, item in node.items()
                if isinstance(key, str) and isinstance(item, np.ndarray)
            }
            if any("." in key for key in arrays):
                found.append(_Found(path, arrays))
            children = [
                (key, item)
                for key, item in node.items()
                if not (isinstance(key, str) and _BESIDE.search(key))
            ]
        else:
            children = list(enumerate(node))
        waiting += [
            ((*path, key), item)
            for key, item in reversed(children)
            if isinstance(item, (Mapping, list, tuple))
        ]
    return found


def _choose(
    found: list[_Found],
    tree: Mapping[str, Any],
    grade: Grade | None,
    source: str,
) -> _Found:
    """The state that is meant.

    Args:
        found: All of them.
        tree: The whole content.
        grade: See :func:`unwrap`.
        source: Name of the file, for messages.
    """
    plain = [one for one in found if not one.averaged] or found
    best = min(one.rank for one in plain)
    ranked = [one for one in plain if one.rank == best]
    if len(plain) > 1 and best < len(WRAPPERS) and len(ranked) == 1:
        return ranked[0]
    known = [one for one in plain if grade and unwrap(one.arrays, grade).grade]
    if len(known) == 1 and (len(plain) == 1 or _ROLES.search(known[0].title)):
        return known[0]
    joined = _join(plain, tree)
    alone = len(known) == 1 and not (grade and joined and unwrap(joined.arrays, grade).grade)
    if joined is not None and not alone:
        return joined
    if len(known) == 1:
        return known[0]
    if len(plain) > 1:
        raise _several([one.title or "its top level" for one in plain], source)
    return plain[0]


def _join(plain: list[_Found], tree: Mapping[str, Any]) -> _Found | None:
    """Parts of one model that lie side by side under the names of its parts, or None."""
    parents = {one.path[:-1] for one in plain}
    if len(parents) != 1 or any(not one.path or one.rank < len(WRAPPERS) for one in plain):
        return None
    (parent,) = parents
    names: set[str] = set()
    for one in plain:
        if _ROLES.search(str(one.path[-1])) or one.averaged or names & one.arrays.keys():
            return None
        names |= one.arrays.keys()
    level: Any = tree
    for key in parent:
        level = level[key]
    if not isinstance(level, Mapping):
        return None
    parts = {
        key: item
        for key, item in level.items()
        if isinstance(item, Mapping)
        and not (isinstance(key, str) and (_BESIDE.search(key) or AVERAGED.search(key)))
        and _holds_tensors(item)
        and "param_groups" not in item
    }
    if len(parts) < 2:
        return None
    return _Found(parent, dict(tensors(parts)))


def _nested(tree: Mapping[str, Any], source: str) -> State:
    """The state of a file whose names have no dots: modules are dictionaries, or there are none."""
    wrapper: list[str] = []
    extras: dict[str, Any] = {}
    notes: list[str] = []
    while True:
        inner = {
            key: item
            for key, item in tree.items()
            if isinstance(item, Mapping) and _holds_tensors(item)
        }
        direct = [key for key, item in tree.items() if isinstance(item, np.ndarray)]
        known = [key for key in WRAPPERS if key in inner]
        if not inner and not direct:
            raise CheckpointError(f"Invalid checkpoint {source}. Expected tensors. Received none.")
        if not known and (direct or len(inner) > 1):
            break
        if not inner:
            break
        chosen = known[0] if known else next(iter(inner))
        extras.update((key, item) for key, item in tree.items() if key != chosen)
        if direct:
            notes.append(f"left out, not part of the weights: {', '.join(map(str, direct[:8]))}")
        wrapper.append(str(chosen))
        tree = tree[chosen]
    arrays = dict(tensors(tree))
    extras.update(
        (key, item)
        for key, item in tree.items()
        if not isinstance(item, np.ndarray)
        and not (isinstance(item, Mapping) and _holds_tensors(item))
    )
    bare = unwrap(arrays, None)
    return State(bare.arrays, tuple(wrapper), bare.prefix, extras, notes, bare.names)


def _extras(tree: Mapping[str, Any], one: _Found, bare: Bare) -> dict[str, Any]:
    taken = {id(array) for array in bare.arrays.values()}
    extras: dict[str, Any] = {}
    level: Any = tree
    for key in (*one.path, None):
        if isinstance(level, Mapping):
            extras.update(
                (name, item)
                for name, item in level.items()
                if name != key
                and id(item) not in taken
                and not _all_taken(item, taken)
                and not isinstance(item, np.ndarray)
            )
        level = level[key] if key is not None else None
    return extras


def _all_taken(item: Any, taken: set[int]) -> bool:
    return isinstance(item, Mapping) and bool(item) and all(id(v) in taken for v in item.values())


def _also(others: list[str], taken: str) -> str:
    average = any(AVERAGED.search(name) for name in others)
    what = "an averaged copy (EMA)" if average and len(others) == 1 else "other states"
    names = ", ".join(others[:_LISTED])
    return (
        f"{STATES_BESIDE} {what} under {names}; {taken} was taken (`unidet convert` with "
        f"--state {others[0]} takes the other)"
    )


def _several(names: list[str], source: str) -> CheckpointError:
    return CheckpointError(
        f"Invalid checkpoint {source}. Expected one state. Received several: "
        f"{', '.join(names[:_LISTED])}. `unidet convert import` with --state {names[0]} takes one "
        "of them into a file of its own."
    )


def _unknown(wanted: str, names: list[str], source: str) -> CheckpointError:
    listed = ", ".join(dict.fromkeys(names)) or "nothing but the one state of the file"
    return CheckpointError(
        f"Invalid state {shown(wanted)} for {source}. Expected one of: {listed[:1000]}."
    )


def _walk(tree: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, np.ndarray):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, (list, tuple)):
        for i, item in enumerate(tree):
            yield from _walk(item, f"{path}.{i}" if path else str(i))


def _holds_tensors(item: Any) -> bool:
    return next(_walk(item, ""), None) is not None
