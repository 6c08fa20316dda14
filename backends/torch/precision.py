"""Mixed precision on PyTorch."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def autocast_bf16(device: str) -> AbstractContextManager[None]:
    """Runs convolutions and matrix products of the block in bfloat16.

    bfloat16 has float32's range, so no loss scaling is needed.

    Raises:
        ValueError: the GPU has no bfloat16.
    """
    if device == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(
            "Invalid value for `train.amp`. Expected off, because this GPU has no bfloat16. "
            "Received 'bf16'."
        )
    return torch.autocast(device_type=device, dtype=torch.bfloat16)
