"""Prefixes that wrappers of models put before the names of tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Arrays = Mapping[str, np.ndarray]

#: Keys and prefixes of averaged copies of the weights.
AVERAGED = re.compile(r"(^|[_\-.])(ema|swa|avg|averaged?|shadow|polyak)([_\-.]|$)", re.IGNORECASE)
#: What compiling, sharding and checkpointing of activations put anywhere in a name.
_ANYWHERE = (
    *("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"),
    "_dpp_module",
)
#: What data-parallel wrappers put before every name.
_PARALLEL = "module"
#: Attributes under which training code keeps the model.
_HOLDERS = (
    *("module", "model", "net", "network", "detector", "student", "teacher", "generator"),
    *("online", "target", "base_model", "inner_model"),
)
_DEPTH = 8

Grade = Callable[[Arrays], int]


@dataclass
class Bare:
    """A state without the prefixes of its wrappers.

    Attributes:
        arrays: Tensors by name.
        names: The file's name of each.
        grade: What the state is; see :func:`unwrap`.
        left: Names of the file that are no part of it.
        averaged: Prefix of an averaged copy beside it, or "".
        rivals: Prefixes of states that are as good; the first was not taken for any reason.
        groups: Prefixes that could be asked for.
        matched: The prefix that was asked for is there.
    """

    arrays: dict[str, np.ndarray]
    names: dict[str, str]
    grade: int = 0
    left: list[str] = field(default_factory=list)
    averaged: str = ""
    rivals: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    matched: bool = True

    @property
    def prefix(self) -> str:
        """What was taken off every name, "" where it was not the same everywhere."""
        found = {
            old[: len(old) - len(new)] if old.endswith(new) else ""
            for new, old in self.names.items()
        }
        return found.pop() if len(found) == 1 else ""


def unwrap(arrays: Arrays, grade: Grade | None, wanted: str | None = None) -> Bare:
    """Takes the prefixes of wrappers off the names of a state.

    Args:
        arrays: Tensors by the file's names.
        grade: 2 for a whole detector (or the model asked for), 1 for a part of one, else 0. It
            decides which prefixes are a wrapper's and which belong to the model.
        wanted: The prefix of the tensors to take, or "ema" for mmdetection's averaged copy.
    """
    current = _without_inner({name: name for name in arrays})
    copies = _copies(current)
    if wanted is not None:
        return _asked(arrays, current, copies, grade, wanted)
    for copy in copies.values():
        current.pop(copy, None)
    bare = _strip(arrays, current, grade)
    bare.averaged = "ema" if copies else ""
    bare.groups += ["ema"] if copies else []
    if grade is None or bare.grade:
        return bare
    return _grouped(arrays, current, grade, bare)


def _asked(
    arrays: Arrays,
    current: dict[str, str],
    copies: dict[str, str],
    grade: Grade | None,
    wanted: str,
) -> Bare:
    if wanted == "ema" and copies:
        return _strip(arrays, {name: current[copy] for name, copy in copies.items()}, grade)
    head = f"{wanted.rstrip('.')}."
    part = {new[len(head) :]: old for new, old in current.items() if new.startswith(head)}
    bare = _strip(arrays, part, grade)
    bare.matched, bare.groups = bool(part), [*_groups(current), *(["ema"] if copies else [])]
    return bare


def _strip(arrays: Arrays, current: dict[str, str], grade: Grade | None) -> Bare:
    """Takes off heads that all names share, as far as something known comes out."""
    sure, left = current, list[str]()
    step, loose = current, list[str]()
    parallel = True
    for _ in range(_DEPTH):
        value = grade(_values(arrays, step)) if grade else 0
        if value:
            return Bare(_values(arrays, step), step, value, loose)
        groups = _groups(step)
        rest = [new for new in step if "." not in new]
        if len(groups) != 1 or any(arrays[step[new]].size > 1 for new in rest):
            break
        (head,) = groups
        loose = [*loose, *(step[new] for new in rest)]
        step = {new[len(head) + 1 :]: old for new, old in step.items() if "." in new}
        # Where nothing known comes out, only what is no name of a module is taken off.
        parallel = parallel and head == _PARALLEL
        if parallel:
            sure, left = step, loose
        elif grade is None:
            break
    return Bare(_values(arrays, sure), sure, 0, left)


def _grouped(arrays: Arrays, current: dict[str, str], grade: Grade, bare: Bare) -> Bare:
    """The one group of names with a common head that is a known state."""
    known: dict[str, Bare] = {}
    for head, names in _groups(current).items():
        part = {new[len(head) + 1 :]: current[new] for new in names}
        found = _strip(arrays, part, grade)
        # A known backbone inside another model is no state of its own.
        if found.grade > 1 or (found.grade and (head in _HOLDERS or AVERAGED.search(head))):
            known[head] = found
    plain = [head for head in known if not AVERAGED.search(head)] or list(known)
    bare.groups += list(known)
    if len(plain) > 1:
        bare.rivals = plain
    if len(plain) != 1:
        return bare
    chosen = known[plain[0]]
    chosen.averaged = next((head for head in known if head != plain[0]), bare.averaged)
    chosen.groups = list(known)
    used = set(chosen.names.values())
    skipped = f"{chosen.averaged}."
    chosen.left = [name for name in arrays if name not in used and not name.startswith(skipped)]
    return chosen


def _groups(current: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in current:
        head, dot, rest = name.partition(".")
        if dot and rest:
            groups.setdefault(head, []).append(name)
    return groups


def _without_inner(current: dict[str, str]) -> dict[str, str]:
    """Names without the parts that no module is called by; as they were where that clashes."""
    result = {}
    for old in current:
        parts = [part for part in old.split(".") if part not in _ANYWHERE]
        result[".".join(parts) or old] = old
    return result if len(result) == len(current) else current


def _copies(current: Mapping[str, str]) -> dict[str, str]:
    """Names of mmdetection's averaged copies (``ema_a_b`` for ``a.b``), by the name copied."""
    found = {}
    for name in current:
        copy = f"ema_{name.replace('.', '_')}"
        if "." in name and copy in current:
            found[name] = copy
    return found


def _values(arrays: Arrays, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    return {new: arrays[old] for new, old in names.items()}
