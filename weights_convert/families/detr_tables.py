"""Names of DETR in published files and in ours, which are Facebook's but for the backbone."""

from __future__ import annotations

from .tables import MOST_BLOCKS, STEM_AND_STAGES, Table

#: Most layers of an encoder or decoder that are looked for; published files have 6.
_MOST_LAYERS = 24

FACEBOOK: Table = (
    *((f"backbone.0.body.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
    *(
        (part, part)
        for part in ("input_proj.", "query_embed.", "transformer.", "class_embed.", "bbox_embed.")
    ),
)

#: Where Hugging Face's files keep the backbone, and where its models in memory do.
HUB, MEMORY = "model.backbone.conv_encoder.model.", "model.backbone.model."


def huggingface(backbone: Table, *, memory: bool = False) -> Table:
    """Names of Hugging Face's DETR; its query, key and value projections are parted.

    Args:
        backbone: Rows of the backbone.
        memory: As transformers 5 names them in memory; files keep the names of its fourth version.
    """
    out, mlp = ("o_proj.", "mlp.") if memory else ("out_proj.", "")
    rows: list[tuple[str, str]] = []
    for stack, norms in (
        ("encoder", ("self_attn_layer_norm.", "final_layer_norm.")),
        ("decoder", ("self_attn_layer_norm.", "encoder_attn_layer_norm.", "final_layer_norm.")),
    ):
        attentions = {"self_attn.": "self_attn.", "encoder_attn.": "multihead_attn."}
        for i in range(_MOST_LAYERS):
            theirs, ours = f"model.{stack}.layers.{i}.", f"transformer.{stack}.layers.{i}."
            for left, right in list(attentions.items())[: len(norms) - 1]:
                rows.append((f"{theirs}{left}{out}", f"{ours}{right}out_proj."))
                rows.append((f"{theirs}{left}", f"{ours}{right}"))
            rows += [(f"{theirs}{mlp}fc{n}.", f"{ours}linear{n}.") for n in (1, 2)]
            rows += [(f"{theirs}{name}", f"{ours}norm{n}.") for n, name in enumerate(norms, 1)]
    return (
        *backbone,
        *rows,
        ("model.decoder.layernorm.", "transformer.decoder.norm."),
        ("model.input_projection.", "input_proj."),
        ("model.query_position_embeddings.", "query_embed."),
        ("class_labels_classifier.", "class_embed."),
        ("bbox_predictor.", "bbox_embed."),
    )


def timm_resnet(prefix: str) -> Table:
    """Rows of a ResNet of timm, whose names are torchvision's."""
    return tuple((f"{prefix}{part}", f"backbone.{part}") for part in STEM_AND_STAGES)


def transformers_resnet(prefix: str) -> Table:
    """Rows of transformers' own ResNet (``use_timm_backbone`` false)."""
    stem = f"{prefix}embedder.embedder."
    rows = [(f"{stem}convolution.", "backbone.conv1."), (f"{stem}normalization.", "backbone.bn1.")]
    for stage, most in enumerate(MOST_BLOCKS):
        for block in range(most):
            theirs = f"{prefix}encoder.stages.{stage}.layers.{block}."
            ours = f"backbone.layer{stage + 1}.{block}."
            for i in range(3):
                rows.append((f"{theirs}layer.{i}.convolution.", f"{ours}conv{i + 1}."))
                rows.append((f"{theirs}layer.{i}.normalization.", f"{ours}bn{i + 1}."))
            rows.append((f"{theirs}shortcut.convolution.", f"{ours}downsample.0."))
            rows.append((f"{theirs}shortcut.normalization.", f"{ours}downsample.1."))
    return tuple(rows)
