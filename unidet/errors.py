"""Errors that a user can act on."""

from __future__ import annotations

from unidet.backends.names import suggestion

__all__ = ["RunFailedError", "UserError", "suggestion"]


class UserError(ValueError):
    """Bad input: one line that names the culprit, what was expected and what was received."""


class RunFailedError(RuntimeError):
    """A run that started well and could not go on (divergence, a full disk)."""
