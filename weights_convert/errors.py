"""Errors of reading, writing and mapping checkpoints."""

from __future__ import annotations

from unidet.errors import UserError


class CheckpointError(UserError):
    """A checkpoint file that is damaged, foreign, or not what was asked for."""


class UnsafePickleError(CheckpointError):
    """A pickle that names something outside the allow-list; nothing was executed.

    Attributes:
        name: The global that was refused, such as ``"os.system"``.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class StateMismatchError(CheckpointError):
    """Tensors are missing, left over, or of another shape than the family's."""
