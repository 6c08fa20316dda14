"""Mixed precision on Jittor: there is none that training could use."""

from __future__ import annotations

from contextlib import AbstractContextManager


def autocast(device: str, kind: str) -> AbstractContextManager[None]:
    """Refuses: Jittor's convolutions on CPUs know float32 alone.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        "Invalid value for `train.amp`. Expected off, because jittor has no mixed precision for "
        f"training (asked for on {device}). Received {kind!r}. Use backend torch, or train.amp=off."
    )
