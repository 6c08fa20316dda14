"""Names and shapes of CLIP and of UniDetector's networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from .architecture import BLOCKS, Shape, conv_shapes, norm_shapes, resnet_shapes

#: Length of the vectors of images and texts, by depth of the visual tower.
EMBEDDING = {50: 1024, 101: 512}
_WIDTH = 64
_EXPANSION = 4
#: Side of the map that the attention pool takes: 224 pixels, or 14 cells of a region, halved.
_SIDE = 7
_TEXT_WIDTH, _TEXT_LAYERS, _CONTEXT, _TOKENS = 512, 12, 77, 49408
#: Anchors in a cell of the end-to-end detector.
_ANCHORS = 15
_VOCABULARY = "head.text_embeddings"


def clip_resnet_shapes(depth: int, *, counters: bool, prefix: str = "") -> dict[str, Shape]:
    """Names and shapes of CLIP's ResNet, all four stages.

    Args:
        depth: 50 or 101.
        counters: Whether batch norms count their steps.
        prefix: Put before every name.
    """
    shapes: dict[str, Shape] = {}
    before = 3
    for i, after in enumerate((_WIDTH // 2, _WIDTH // 2, _WIDTH), 1):
        conv_shapes(shapes, f"conv{i}", after, before, 3, bias=False)
        norm_shapes(shapes, f"bn{i}", after, counters)
        before = after
    # Beyond the stem names and shapes are those of the usual ResNet; the arithmetic is not.
    usual = resnet_shapes(depth, counters=counters)
    shapes.update((name, shape) for name, shape in usual.items() if name.startswith("layer"))
    return {prefix + name: shape for name, shape in shapes.items()}


def attention_pool_shapes(outputs: int, prefix: str) -> dict[str, Shape]:
    """Names and shapes of the pool that makes one vector of C5."""
    channels = _WIDTH * 8 * _EXPANSION
    shapes: dict[str, Shape] = {f"{prefix}positional_embedding": (_SIDE**2 + 1, channels)}
    for name, rows in (("q", channels), ("k", channels), ("v", channels), ("c", outputs)):
        shapes[f"{prefix}{name}_proj.weight"] = (rows, channels)
        shapes[f"{prefix}{name}_proj.bias"] = (rows,)
    return shapes


def clip_visual_shapes(depth: int, *, counters: bool, prefix: str = "") -> dict[str, Shape]:
    """Names and shapes of the visual tower."""
    return {
        **clip_resnet_shapes(depth, counters=counters, prefix=prefix),
        **attention_pool_shapes(EMBEDDING[depth], f"{prefix}attnpool."),
    }


def clip_shapes(depth: int, *, counters: bool) -> dict[str, Shape]:
    """Names and shapes of a whole CLIP with a ResNet."""
    shapes = clip_visual_shapes(depth, counters=counters, prefix="visual.")
    width = _TEXT_WIDTH
    for i in range(_TEXT_LAYERS):
        block = f"transformer.resblocks.{i}."
        shapes[f"{block}attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{block}attn.in_proj_bias"] = (3 * width,)
        _linear(shapes, f"{block}attn.out_proj", width, width)
        _linear(shapes, f"{block}mlp.c_fc", 4 * width, width)
        _linear(shapes, f"{block}mlp.c_proj", width, 4 * width)
        for norm in ("ln_1", "ln_2"):
            shapes[f"{block}{norm}.weight"] = shapes[f"{block}{norm}.bias"] = (width,)
    shapes["token_embedding.weight"] = (_TOKENS, width)
    shapes["positional_embedding"] = (_CONTEXT, width)
    shapes["ln_final.weight"] = shapes["ln_final.bias"] = (width,)
    shapes["text_projection"] = (width, EMBEDDING[depth])
    shapes["logit_scale"] = ()
    return shapes


def clip_arguments(depth: int) -> dict[str, Any]:
    """Arguments of the native model that has the tensors of :func:`clip_shapes`."""
    return {
        "embed_dim": EMBEDDING[depth],
        "vision_layers": BLOCKS[depth],
        "vision_width": _WIDTH,
        "image_resolution": 32 * _SIDE,
        "context_length": _CONTEXT,
        "vocab_size": _TOKENS,
        "transformer_width": _TEXT_WIDTH,
        "transformer_heads": _TEXT_WIDTH // 64,
        "transformer_layers": _TEXT_LAYERS,
    }


def clip_detector_shapes(
    vocabularies: tuple[int, ...], *, partitioned: bool, rpn: bool, counters: bool
) -> dict[str, Shape]:
    """Names and shapes of UniDetector on CLIP's ResNet-50.

    Args:
        vocabularies: Classes of each vocabulary.
        partitioned: Vocabularies are numbered, one for each data set; otherwise there is one.
        rpn: It proposes regions itself.
        counters: Whether batch norms count their steps.
    """
    shapes: dict[str, Shape] = {}
    for name, shape in clip_resnet_shapes(50, counters=counters).items():
        shapes[f"{'head' if name.startswith('layer4.') else 'backbone'}.{name}"] = shape
    length, channels = EMBEDDING[50], _WIDTH * 4 * _EXPANSION
    shapes.update(attention_pool_shapes(length, "head.attnpool."))
    _linear(shapes, "head.box_out", 4, length)
    for i, classes in enumerate(vocabularies):
        shapes[f"{_VOCABULARY}_{i}" if partitioned else _VOCABULARY] = (length, classes + 1)
    if rpn:
        conv_shapes(shapes, "rpn.convs.0", channels, channels, 3)
        conv_shapes(shapes, "rpn.cls_out", _ANCHORS, channels, 1)
        conv_shapes(shapes, "rpn.box_out", 4 * _ANCHORS, channels, 1)
    return shapes


def cln_shapes(*, counters: bool) -> dict[str, Shape]:
    """Names and shapes of UniDetector's first stage, on a ResNet-50 of torchvision's layout."""
    shapes = resnet_shapes(50, prefix="backbone.", counters=counters)
    width, hidden = 256, 1024
    for i in range(4):
        conv_shapes(shapes, f"neck.lateral.{i}", width, width << i, 1)
        conv_shapes(shapes, f"neck.output.{i}", width, width, 3)
    conv_shapes(shapes, "rpn.convs.0", width, width, 3)
    for name, rows in (("cls_out", 1), ("box_out", 4), ("quality_out", 1)):
        conv_shapes(shapes, f"rpn.{name}", rows, width, 1)
    _linear(shapes, "head.fcs.0", hidden, width * _SIDE**2)
    _linear(shapes, "head.fcs.1", hidden, hidden)
    for name, rows in (("cls_out", 2), ("box_out", 4), ("quality_out", 1)):
        _linear(shapes, f"head.{name}", rows, hidden)
    return shapes


def clip_depth(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Depth of CLIP's ResNet, from the blocks of its third stage.

    Args:
        shapes: Of all tensors.
        prefix: Before the stages' names.

    Raises:
        CheckpointError: it has neither 6 nor 23.
    """
    pattern = re.compile(re.escape(prefix) + r"layer3\.(\d{1,3})\.")
    found = {int(match[1]) for match in map(pattern.match, shapes) if match}
    blocks = 1 + max(found, default=-1)
    for depth in EMBEDDING:
        if BLOCKS[depth][2] == blocks:
            return depth
    raise CheckpointError(
        f"Invalid CLIP. Expected 6 (RN50) or 23 (RN101) blocks in the third stage. "
        f"Received {blocks}."
    )


def vocabulary_sizes(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    """Classes of each vocabulary; a single one without a number counts as one.

    Args:
        shapes: Of all tensors, under native names.

    Raises:
        CheckpointError: a number or a whole shape is missing.
    """
    pattern = re.compile(re.escape(_VOCABULARY) + r"(?:_(\d{1,4}))?")
    matches = {name: pattern.fullmatch(name) for name in shapes}
    found = sorted((int(match[1] or 0), name) for name, match in matches.items() if match)
    for place, (number, name) in enumerate(found):
        if number != place or len(shapes[name]) != 2 or shapes[name][1] < 2:
            raise CheckpointError(
                "Invalid vocabularies. Expected embeddings (dimension, classes + 1), numbered from "
                f"0 where there are several. Received {name} {shapes[name]} at place {place}."
            )
    return tuple(shapes[name][1] - 1 for _, name in found)


def _linear(shapes: dict[str, Shape], name: str, rows: int, columns: int) -> None:
    shapes[f"{name}.weight"] = (rows, columns)
    shapes[f"{name}.bias"] = (rows,)
