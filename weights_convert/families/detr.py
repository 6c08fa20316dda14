"""DETR: checkpoints of Facebook and of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import detr_tables as tables
from .detr_config import TOLD, written_config
from .detr_settings import ARGS, CONFIG, DC5, facebook_told, huggingface_told
from .detr_shapes import DETRShape, infer_detr, require_dilatable
from .family import Family, Form
from .labels import DETR_SLOTS
from .native import native_shapes
from .neighbour import Neighbour
from .networks import Expected, Shapes
from .styles import Style

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
    told = args.get("dilation") if isinstance(args, Mapping) else None
    return told if isinstance(told, bool) else None


def _facebook(name: str, title: str, ending: str, **options: Any) -> Family:
    return Family(
        name,
        title,
        DETRNetwork(ending, rf"detr_r\d+{ending}(_huggingface)?"),
        (
            Form(
                "",
                tables.FACEBOOK,
                ("query_embed.weight", "class_embed.weight", "transformer.decoder.norm.weight"),
                "backbone.0.body.conv1.weight",
                # Pre-norm DETR, Conditional DETR.
                (
                    "transformer.encoder.norm.weight",
                    "transformer.decoder.layers.0.sa_qcontent_proj.weight",
                ),
            ),
        ),
        dialect="",
        frozen_norm=True,
        widens=True,
        wrapper="model",
        slots=DETR_SLOTS,
        told=facebook_told,
        **options,
    )


_DILATED = Style(
    _dilated,
    unknown="the file does not say whether its last stage is dilated (DC5): taken for a stride of "
    "32; if it is a DC5 model, say {name}",
    yes="the file's args say dilation (DC5)",
    no="the file's args say no dilation",
)


def _huggingface_form(name: str, table: tables.Table, stem: str) -> Form:
    return Form(
        name,
        table,
        ("class_labels_classifier.weight", "model.query_position_embeddings.weight"),
        stem,
        # Table Transformer, Conditional DETR.
        ("model.encoder.layernorm.weight", "model.decoder.layers.0.sa_qcontent_proj.weight"),
        parted=True,
    )


_HUGGINGFACE = Family(
    "huggingface_detr",
    "Hugging Face's DETR",
    DETRNetwork("_huggingface", r"detr_r\d+(_dc5)?(_huggingface)?"),
    tuple(
        _huggingface_form(
            f"{where}{kind}",
            tables.huggingface(rows(prefix), memory=where == "memory"),
            prefix + stem,
        )
        for where, prefix in (("file", tables.HUB), ("memory", tables.MEMORY))
        for kind, rows, stem in (
            ("", tables.timm_resnet, "conv1.weight"),
            ("_resnet", tables.transformers_resnet, "embedder.embedder.convolution.weight"),
        )
    ),
    dialect="",
    frozen_norm=True,
    widens=True,
    ignored=(_COUNTS,),
    slots=DETR_SLOTS,
    told=huggingface_told,
    neighbour=Neighbour(CONFIG, written_config, TOLD),
)

#: In the order in which they are tried.
DETR: tuple[Family, ...] = (
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
