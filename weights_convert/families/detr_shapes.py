"""Names and shapes of the native DETR."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError
from .architecture import Shape, conv_shapes, infer_depth, resnet_shapes, rows_of


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


def detr_shapes(net: DETRShape, *, counters: bool) -> dict[str, Shape]:
    """Names and shapes of the native DETR."""
    shapes = resnet_shapes(net.depth, prefix="backbone.", counters=counters)
    width = net.width
    conv_shapes(shapes, "input_proj", width, 2048 if net.depth >= 50 else 512, 1)
    shapes["query_embed.weight"] = (net.num_queries, width)
    for stack, count, attentions in (
        ("encoder", net.encoder_layers, ("self_attn",)),
        ("decoder", net.decoder_layers, ("self_attn", "multihead_attn")),
    ):
        for i in range(count):
            layer = f"transformer.{stack}.layers.{i}"
            for attention in attentions:
                shapes[f"{layer}.{attention}.in_proj_weight"] = (3 * width, width)
                shapes[f"{layer}.{attention}.in_proj_bias"] = (3 * width,)
                _linear(shapes, f"{layer}.{attention}.out_proj", width, width)
            _linear(shapes, f"{layer}.linear1", net.feedforward, width)
            _linear(shapes, f"{layer}.linear2", width, net.feedforward)
            for norm in range(1, len(attentions) + 2):
                _norm(shapes, f"{layer}.norm{norm}", width)
    _norm(shapes, "transformer.decoder.norm", width)
    _linear(shapes, "class_embed", net.num_classes + 1, width)
    for i, rows in enumerate((width, width, 4)):
        _linear(shapes, f"bbox_embed.layers.{i}", rows, width)
    return shapes


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


def _linear(shapes: dict[str, Shape], name: str, rows: int, columns: int) -> None:
    shapes[f"{name}.weight"] = (rows, columns)
    shapes[f"{name}.bias"] = (rows,)


def _norm(shapes: dict[str, Shape], name: str, width: int) -> None:
    shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)
