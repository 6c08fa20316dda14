"""What a graph starts from: its inputs, and the parts of the network that PyTorch writes down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends.registry import implementation
from unidet.export.graph import Graph, Value
from unidet.export.packages import onnx_package

#: An input large enough that no map of a pyramid has a side of 1.
EXAMPLE_SIZE = (320, 448)
#: What the maker of a graph returns: boxes, scores and labels.
Found = tuple[Value, Value, Value]


@dataclass(frozen=True)
class Inputs:
    """Inputs of the whole graph.

    Attributes:
        image: ``(1, 3, H, W)`` float32, normalised and padded.
        image_size: int64 ``(height, width)`` before padding.
        scale: float32 ``(sy, sx)``, size of the input over size of the original.
        proposals: ``(n, 4)`` float32 in pixels of the input, for models that take them.
        proposal_scores: ``(n,)`` float32, for models that use them.
    """

    image: Value
    image_size: Value
    scale: Value
    proposals: Value | None = None
    proposal_scores: Value | None = None


@dataclass(frozen=True)
class Given:
    """An input of a part.

    Attributes:
        value: what enters.
        shape: of an example.
        varying: axes whose length is free.
    """

    value: Value
    shape: tuple[int, ...]
    varying: tuple[int, ...]


def image_of(inputs: Inputs) -> Given:
    """The image as the input of a part."""
    return Given(inputs.image, (1, 3, *EXAMPLE_SIZE), (2, 3))


class Parts:
    """Writes parts of a model into graphs.

    Args:
        model: of PyTorch, on the CPU, in evaluation mode.
        opset: version of the operators.
    """

    def __init__(self, model: Any, opset: int) -> None:
        self.model, self.opset = model, opset

    def add(
        self,
        graph: Graph,
        function: Callable[..., Sequence[Any]],
        given: Mapping[str, Given],
        outputs: Sequence[str],
    ) -> list[Value]:
        """Adds what ``function(model, *tensors)`` computes, and gives its float32 answers."""
        rng = np.random.default_rng(0)
        part = implementation("torch", "exporting").to_onnx(
            self.model,
            function,
            {name: rng.random(one.shape, np.float32) for name, one in given.items()},
            outputs,
            {name: one.varying for name, one in given.items()},
            self.opset,
        )
        model = onnx_package().load_from_string(part)
        return graph.embed(model, {name: one.value for name, one in given.items()})
