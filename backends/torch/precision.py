"""Precision on PyTorch: bfloat16 where asked for, and float32 that is float32."""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager

import torch

#: "1" leaves PyTorch's settings of TF32 as they are.
TF32_VARIABLE = "UNIDET_TF32"


@functools.cache
def use_full_float32() -> None:
    """Turns TF32 off for convolutions on GPUs, once: what a program sets afterwards stays.

    PyTorch rounds the factors of its convolutions to 10 bits there by default, and a model then
    departs by 1e-3 of its scale from itself on a CPU. Matrix products are exact by default.
    """
    if os.environ.get(TF32_VARIABLE) != "1":
        torch.backends.cudnn.allow_tf32 = False


def autocast(device: str, kind: str) -> AbstractContextManager[None]:
    """Runs convolutions and matrix products of the block in half precision.

    Args:
        device: "cpu" or "cuda".
        kind: "bf16", which has float32's range, or "fp16", whose small gradients vanish unless the
            losses are scaled.

    Raises:
        ValueError: the GPU has no bfloat16.
    """
    if kind == "fp16":
        return torch.autocast(device_type=device, dtype=torch.float16)
    if device == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(
            "Invalid value for `train.amp`. Expected off, because this GPU has no bfloat16. "
            "Received 'bf16'."
        )
    return torch.autocast(device_type=device, dtype=torch.bfloat16)


def lay_out(model: torch.nn.Module) -> None:
    """Channels innermost, for half precision: on CPUs 0.9 of a training step's time in bfloat16.

    Not in float32, where batch statistics over such maps lose digits.
    """
    model.to(memory_format=torch.channels_last)
