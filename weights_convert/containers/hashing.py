"""What hashing the keys of a pickle would cost, found without building anything.

A tuple that holds another one twice, which does so again, and so on, is small in the file and takes
2**n steps to hash. Reading such a key is refused before it starts.
"""

from __future__ import annotations

import pickletools
from typing import Any

from ..errors import CheckpointError

#: Values in the largest key; those of training states are text, numbers and pairs.
_LIMIT = 256
_ENOUGH = 1 << 20
_MARK = -1
#: Opcodes whose result holds everything they take, for all that can be known.
_HOLDING = {
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX"),
    *("OBJ", "INST", "BINPERSID"),
}
#: Opcodes that put keys or members into a dictionary or a set, and the distance between them.
_HASHING = {"SETITEM": 2, "SETITEMS": 2, "DICT": 2, "ADDITEMS": 1, "FROZENSET": 1}


class Costs:
    """The stack and the memo of an unpickler, with the number of values instead of the values."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._memo: dict[int, int] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follows one opcode.

        Raises:
            CheckpointError: a key of too many values, or a stack that runs empty.
        """
        name, stack = opcode.name, self._stack
        if name in ("MARK", "DUP", "POP", "POP_MARK") or "PUT" in name or "GET" in name:
            self._move(name, argument)
            return
        if name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
            return
        taken: list[int] = []
        before = opcode.stack_before
        if pickletools.markobject in before:
            below = before.index(pickletools.markobject)
            taken = self._to_mark()
        else:
            below = len(before)
        first = self._take(below)
        distance = _HASHING.get(name)
        if distance:
            keys = first[1:2] if name == "SETITEM" else taken[::distance]
            if any(cost > _LIMIT for cost in keys):
                raise CheckpointError("the pickle has a key that is no plain value")
        held = sum(first) + sum(taken) if name in _HOLDING else 0
        stack += [min(held + 1, _ENOUGH)] * len(opcode.stack_after)

    def _move(self, name: str, argument: Any) -> None:
        if name == "MARK":
            self._stack.append(_MARK)
        elif name == "DUP":
            self._stack.append(self._top())
        elif name == "POP":
            self._stack.pop()
        elif name == "POP_MARK":
            self._to_mark()
        elif "PUT" in name:
            self._memo[argument] = self._top()
        else:
            if argument not in self._memo:
                raise CheckpointError(f"the pickle refers to memo {argument}, which is not there")
            self._stack.append(self._memo[argument])

    def _top(self) -> int:
        if not self._stack or self._stack[-1] == _MARK:
            raise CheckpointError("the pickle is damaged: its stack runs empty")
        return self._stack[-1]

    def _take(self, count: int) -> list[int]:
        if count == 0:
            return []
        taken = self._stack[-count:]
        if len(taken) < count or _MARK in taken:
            raise CheckpointError("the pickle is damaged: its stack runs empty")
        del self._stack[-count:]
        return taken

    def _to_mark(self) -> list[int]:
        taken: list[int] = []
        while self._stack:
            value = self._stack.pop()
            if value == _MARK:
                return taken[::-1]
            taken.append(value)
        raise CheckpointError("the pickle is damaged: its stack runs empty")
