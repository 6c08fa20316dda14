"""DETR: checkpoints of Facebook and of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .detr_config import METADATA, written_config
from .detr_settings import ARGS, CONFIG, DC5, facebook_metadata, huggingface_metadata
from .detr_shapes import DETRShape, infer_detr, require_dilatable
from .family import Family, Form
from .labels import DETR_SLOTS
from .native import native_shapes
from .networks import Expected, Shapes
from .rename import MOST_BLOCKS, STEM_AND_STAGES, Table
from .sidecar import Sidecar
from .styles import Style

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


#: Counts that four norms of the hub's files have and the network has not.
_COUNTS = r".*layer[1-4]\.0\.downsample\.1\.num_batches_tracked"
_SIZES = ("num_queries", "width", "feedforward", "encoder_layers", "decoder_layers")


@dataclass(frozen=True)
class DETRNetwork:
    """DETR.

    Attributes:
        ending: Of the native model's name.
        models: Pattern of the native models' names. Facebook's and Hugging Face's conventions
            differ in training alone, so that each can be written as the other.
    """

    ending: str
    models: str

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        net = infer_detr(shapes)
        if self.ending == DC5:
            require_dilatable(net.depth)
        usual = DETRShape(net.depth, net.num_classes)
        arguments: dict[str, Any] = {"num_classes": net.num_classes}
        for name in _SIZES:
            if getattr(net, name) != getattr(usual, name):
                arguments[name] = getattr(net, name)
        name = f"detr_r{net.depth}{self.ending}"
        # One head divides every width; the number of heads shows in no tensor.
        wanted = native_shapes(name, {**arguments, "heads": 1}, counters=counters)
        return Expected(wanted, name, arguments)


def _dilated(extras: Mapping[str, Any]) -> bool | None:
    args = extras.get(ARGS)
    metadata = args.get("dilation") if isinstance(args, Mapping) else None
    return metadata if isinstance(metadata, bool) else None


def _facebook(name: str, title: str, ending: str, **options: Any) -> Family:
    return Family(
        name,
        title,
        DETRNetwork(ending, rf"detr_r\d+{ending}(_huggingface)?"),
        (
            Form(
                "",
                FACEBOOK,
                ("query_embed.weight", "class_embed.weight", "transformer.decoder.norm.weight"),
                "backbone.0.body.conv1.weight",
                # Pre-norm DETR, Conditional DETR.
                (
                    "transformer.encoder.norm.weight",
                    "transformer.decoder.layers.0.sa_qcontent_proj.weight",
                ),
            ),
        ),
        preset="",
        frozen_norm=True,
        widens=True,
        wrapper="model",
        slots=DETR_SLOTS,
        metadata=facebook_metadata,
        **options,
    )


_DILATED = Style(
    _dilated,
    unknown="the file does not say whether its last stage is dilated (DC5): taken for a stride of "
    "32; if it is a DC5 model, say {name}",
    yes="the file's args say dilation (DC5)",
    no="the file's args say no dilation",
)


def _huggingface_form(name: str, table: Table, stem: str) -> Form:
    return Form(
        name,
        table,
        ("class_labels_classifier.weight", "model.query_position_embeddings.weight"),
        stem,
        # Table Transformer, Conditional DETR.
        ("model.encoder.layernorm.weight", "model.decoder.layers.0.sa_qcontent_proj.weight"),
        split_qkv=True,
    )


_HUGGINGFACE = Family(
    "huggingface_detr",
    "Hugging Face's DETR",
    DETRNetwork("_huggingface", r"detr_r\d+(_dc5)?(_huggingface)?"),
    tuple(
        _huggingface_form(
            f"{where}{kind}",
            huggingface(rows(prefix), memory=where == "memory"),
            prefix + stem,
        )
        for where, prefix in (("file", HUB), ("memory", MEMORY))
        for kind, rows, stem in (
            ("", timm_resnet, "conv1.weight"),
            ("_resnet", transformers_resnet, "embedder.embedder.convolution.weight"),
        )
    ),
    preset="",
    frozen_norm=True,
    widens=True,
    ignored=(_COUNTS,),
    slots=DETR_SLOTS,
    metadata=huggingface_metadata,
    sidecar=Sidecar(CONFIG, written_config, METADATA),
)

#: In the order in which they are tried.
FAMILIES: tuple[Family, ...] = (
    _facebook("facebook_detr", "Facebook's DETR", ""),
    _facebook(
        "facebook_detr_dc5",
        "Facebook's DETR with a dilated last stage (DC5)",
        DC5,
        variant_of="facebook_detr",
        style=_DILATED,
    ),
    _HUGGINGFACE,
)
