"""What all models need to draw their starting weights."""

from __future__ import annotations

from typing import Any

from unidet.backends import ops


def convolution_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights and biases of all convolutions, by parameter name."""
    shapes = {name: tuple(ops.shape(value)) for name, value in model.named_parameters()}
    return {
        name: shape
        for name, shape in shapes.items()
        if len(shapes.get(f"{name.rpartition('.')[0]}.weight", ())) == 4
    }
