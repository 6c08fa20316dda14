"""What the names and shapes of a DETR tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError
from .architecture import Shape, infer_depth, rows_of


@dataclass(frozen=True)
class DETRShape:
    """What decides the names and shapes of a DETR's tensors.

    Attributes:
        depth: Of the ResNet.
        num_classes: Without "no object".
        num_queries: Answers for each image.
        width: Channels of the transformer.
        feedforward: Channels between two feed-forward layers.
        encoder_layers: How many.
        decoder_layers: How many.
    """

    depth: int
    num_classes: int
    num_queries: int = 100
    width: int = 256
    feedforward: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6


def infer_detr(shapes: Mapping[str, Shape]) -> DETRShape:
    """What a native DETR state was made from.

    Args:
        shapes: Of all tensors, under native names; attention is not looked at.

    Raises:
        CheckpointError: a tensor that tells is missing.
    """
    return DETRShape(
        depth=infer_depth(shapes, "backbone."),
        num_classes=max(rows_of(shapes, "class_embed.weight") - 1, 0),
        num_queries=rows_of(shapes, "query_embed.weight"),
        width=rows_of(shapes, "input_proj.weight"),
        feedforward=rows_of(shapes, "transformer.decoder.layers.0.linear1.weight"),
        encoder_layers=_layers(shapes, "encoder"),
        decoder_layers=_layers(shapes, "decoder"),
    )


def require_dilatable(depth: int) -> None:
    """Raises ``CheckpointError`` where nobody else dilates the last stage (DC5) of a ResNet."""
    if depth < 50:
        raise CheckpointError(
            "Invalid DETR with a dilated last stage (DC5). Expected a ResNet of 50 layers or more. "
            f"Received one of {depth}."
        )


def _layers(shapes: Mapping[str, Shape], stack: str) -> int:
    # Any tensor of a layer counts, so that a single missing one is reported as missing.
    pattern = re.compile(rf"transformer\.{stack}\.layers\.(\d{{1,3}})\.")
    return 1 + max((int(m[1]) for m in map(pattern.match, shapes) if m), default=-1)
