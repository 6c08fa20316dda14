"""Names and shapes of native models, read off the models themselves; no framework is needed."""

from __future__ import annotations

from typing import Any

from ..errors import CheckpointError
from .architecture import Shape, is_counter


def native_shapes(name: str, arguments: dict[str, Any], *, counters: bool) -> dict[str, Shape]:
    """Names and shapes of all tensors of a native model.

    Args:
        name: Of the model, as ``create_model`` takes it.
        arguments: Of the model.
        counters: Whether batch norms count their steps.

    Raises:
        CheckpointError: no model has these arguments.
    """
    # Imported here: the models come after the converter in the order of imports.
    from unidet.backends import nn
    from unidet.models.factory import create_model, model_spec

    accepts = model_spec(name).accepts
    norm = {"norm": "batch"} if "norm" in accepts else {}
    try:
        model = create_model(name, backend="numpy", **{**arguments, **norm})
    except ValueError as error:
        raise CheckpointError(f"Invalid sizes of a {name}. {error}") from None
    shapes = nn.shapes(model)
    return {n: shape for n, shape in shapes.items() if counters or not is_counter(n)}
