"""Jittor behind the neutral layer. Importing this package prepares the process, then Jittor."""

from unidet.backends.jittor.environment import load

jt = load()

__all__ = ["jt"]
