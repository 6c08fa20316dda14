"""Parts of a PyTorch model as ONNX graphs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch


class _Part(torch.nn.Module):
    """A function of a model and its tensors, as a module of its own."""

    def __init__(self, model: torch.nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.function(self.model, *tensors))


def to_onnx(
    model: torch.nn.Module,
    function: Callable[..., Any],
    examples: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    varying: Mapping[str, Sequence[int]],
    opset: int,
) -> bytes:
    """Writes down what ``function(model, *inputs)`` computes.

    The computation is traced, so ``function`` must use the shapes of its inputs without turning
    them into plain numbers. PyTorch has two exporters: the older one takes a second where the one
    of ``torch.export`` takes twenty, and needs no further packages.

    Args:
        model: in evaluation mode, on the CPU.
        function: gives one tensor for each of ``outputs``.
        examples: an array for each input, by name, in the function's order.
        outputs: names of the answers.
        varying: axes of an input that other inputs may have longer or shorter.
        opset: version of the operators.

    Returns:
        A serialised ``ModelProto``.
    """
    part = _Part(model, function).eval()
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in examples.values())
    axes = {name: {axis: f"{name}_{axis}" for axis in own} for name, own in varying.items()}
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter's age, and choices of layout by shape: the same values whichever is taken.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            part,
            tensors,
            written,
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=opset,
            **_older_exporter(),
        )
    return written.getvalue()


def _older_exporter() -> dict[str, Any]:
    # Releases before 2.5 know no other and no such argument.
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return {"dynamo": False} if version >= (2, 5) else {}
