"""Mixed precision on Jittor: there is no autocast to bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager


def autocast_bf16(device: str) -> AbstractContextManager[None]:
    """Refuses.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        "Invalid value for `train.amp`. Expected off, because jittor has no autocast to bfloat16 "
        f"(asked for on {device}). Received 'bf16'. Use backend torch, or train.amp=off."
    )
