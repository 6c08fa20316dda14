"""Errors that a user can act on."""

from __future__ import annotations

from unidet.backends.names import cut, suggestion

__all__ = ["RunFailedError", "UserError", "suggestion"]

#: Exit statuses of the command.
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130

#: Characters of the longest message.
LONGEST_MESSAGE = 3800


class UserError(ValueError):
    """Bad input: one line that names the culprit, what was expected and what was received.

    Names in a file may be of any length; a message that repeats one is cut in the middle.
    """

    def __str__(self) -> str:
        return cut(super().__str__(), LONGEST_MESSAGE)


class RunFailedError(RuntimeError):
    """A run that started well and could not go on (divergence, a full disk)."""
