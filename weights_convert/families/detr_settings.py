"""What DETR's files say beside the weights: Facebook's ``args`` and Hugging Face's config.json."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import CheckpointError
from .detr_shapes import DETRShape, infer_detr, require_dilatable
from .networks import Expected, Metadata

#: Keys of the settings in ``State.extras``.
ARGS, CONFIG = "args", "config.json"
#: What names of models with a dilated last stage have behind the depth.
DC5 = "_dc5"
_HEADS = 8
_NO_HEADS = f"the file does not say how many heads its attention has: taken for {_HEADS}"
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "size": ("a whole number", lambda v: _is_number(v) and v == int(v)),
    "heads": ("a whole number above 0", lambda v: _is_number(v) and v == int(v) and v > 0),
    "share": ("a number of 0 or more and less than 1", lambda v: _is_number(v) and v < 1),
    "weight": ("a number of 0 or more", lambda v: _is_number(v)),
    "positive": ("a number above 0", lambda v: _is_number(v) and v > 0),
    "flag": ("true or false", lambda v: isinstance(v, bool)),
}
#: Their key, ours (several where one number does several things), and what it has to be.
Row = tuple[str, tuple[str, ...], str]
_FACEBOOK: tuple[Row, ...] = (
    ("hidden_dim", ("width",), "size"),
    ("num_queries", ("num_queries",), "size"),
    ("dim_feedforward", ("feedforward",), "size"),
    ("enc_layers", ("encoder_layers",), "size"),
    ("dec_layers", ("decoder_layers",), "size"),
    ("nheads", ("heads",), "heads"),
    ("dropout", ("dropout", "attention_dropout", "activation_dropout"), "share"),
    ("aux_loss", ("auxiliary_losses",), "flag"),
    ("set_cost_class", ("cost_class",), "weight"),
    ("set_cost_bbox", ("cost_bbox",), "weight"),
    ("set_cost_giou", ("cost_giou",), "weight"),
    ("bbox_loss_coef", ("weight_bbox",), "weight"),
    ("giou_loss_coef", ("weight_giou",), "weight"),
    ("eos_coef", ("eos_coef",), "positive"),
)
HUGGINGFACE: tuple[Row, ...] = (
    ("d_model", ("width",), "size"),
    ("num_queries", ("num_queries",), "size"),
    ("encoder_ffn_dim", ("feedforward",), "size"),
    ("decoder_ffn_dim", ("feedforward",), "size"),
    ("encoder_layers", ("encoder_layers",), "size"),
    ("decoder_layers", ("decoder_layers",), "size"),
    ("encoder_attention_heads", ("heads",), "heads"),
    ("decoder_attention_heads", ("heads",), "heads"),
    # The same rate falls on what the encoder receives.
    ("dropout", ("dropout", "input_dropout"), "share"),
    ("attention_dropout", ("attention_dropout",), "share"),
    ("activation_dropout", ("activation_dropout",), "share"),
    # With these losses transformers' decoder norms what it hands on, too.
    ("auxiliary_loss", ("renormalise", "auxiliary_losses"), "flag"),
    ("class_cost", ("cost_class",), "weight"),
    ("bbox_cost", ("cost_bbox",), "weight"),
    ("giou_cost", ("cost_giou",), "weight"),
    ("bbox_loss_coefficient", ("weight_bbox",), "weight"),
    ("giou_loss_coefficient", ("weight_giou",), "weight"),
    ("eos_coefficient", ("eos_coef",), "positive"),
)
#: What other values would need another network for.
_FACEBOOK_FIXED = {"pre_norm": (False,), "position_embedding": ("sine", "v2")}
HUGGINGFACE_FIXED = {
    "model_type": ("detr",),
    "activation_function": ("relu",),
    "position_embedding_type": ("sine",),
}


def facebook_metadata(extras: Mapping[str, Any], expected: Expected, source: str) -> Metadata:
    """What the ``args`` of a training checkpoint say.

    Args:
        extras: What the file holds beside the weights.
        expected: What the tensors show.
        source: Name of the file, for messages.

    Raises:
        CheckpointError: they contradict the tensors, or ask for another network.
    """
    args = extras.get(ARGS)
    if not isinstance(args, Mapping):
        return Metadata(remarks=(_NO_HEADS,))
    reader = _Reader(args, infer_detr(expected.shapes), f"args of {source}")
    reader.require(_FACEBOOK_FIXED)
    reader.depth(args.get("backbone"))
    arguments = reader.read(_FACEBOOK)
    rate = args.get("lr_backbone")
    if rate is not None and _is_number(rate):
        arguments["frozen_stages"] = 1 if rate > 0 else 4
    remarks = ("arguments are those of its training (args)",)
    return Metadata(arguments, remarks if "heads" in arguments else (*remarks, _NO_HEADS))


def huggingface_metadata(extras: Mapping[str, Any], expected: Expected, source: str) -> Metadata:
    """What config.json says; see :func:`facebook_told`.

    Raises:
        CheckpointError: it contradicts the tensors, or asks for another network.
    """
    config = extras.get(CONFIG)
    if not isinstance(config, Mapping):
        return Metadata(
            remarks=(f"there is no {CONFIG} beside the file: taken for {_HEADS} heads, no DC5",)
        )
    net = infer_detr(expected.shapes)
    reader = _Reader(config, net, f"{CONFIG} beside {source}")
    reader.require(HUGGINGFACE_FIXED)
    backbone = config.get("backbone_config")
    backbone = backbone if isinstance(backbone, Mapping) else {}
    if backbone.get("downsample_in_bottleneck"):
        reader.refuse("a stride in the 3x3 (`downsample_in_bottleneck` false)", True)
    reader.depth(config.get("backbone") or backbone.get("backbone"))
    arguments = reader.read(HUGGINGFACE)
    names = class_names(config, reader.where)
    if names is not None and len(names) != net.num_classes:
        reader.refuse(f"{net.num_classes} entries of `id2label`, as the tensors have", len(names))
    remarks = [f"arguments are those of {CONFIG}"]
    if "heads" not in arguments:
        remarks.append(_NO_HEADS)
    for key in ("encoder_layerdrop", "decoder_layerdrop"):
        if config.get(key):
            remarks.append(f"{key} {config[key]} of {CONFIG} is not reproduced in training")
    dilated = reader.flag("dilation") or _dilated(backbone) or _dilated(config)
    if not dilated:
        return Metadata(arguments, tuple(remarks))
    require_dilatable(net.depth)
    name = expected.name.replace(f"_r{net.depth}", f"_r{net.depth}{DC5}")
    return Metadata(arguments, tuple(remarks), name)


def class_names(config: Mapping[str, Any], where: str = CONFIG) -> tuple[str, ...] | None:
    """Names of the labels in a config.json, or None where it does not tell them.

    Args:
        config: Its content.
        where: What it is, for messages.

    Raises:
        CheckpointError: labels are not numbered from 0 without gaps.
    """
    table = config.get("id2label")
    if table is None:
        return None
    numbered = table if isinstance(table, Mapping) else {}
    names = [numbered.get(str(i)) for i in range(len(numbered))]
    if not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            f"Invalid {where}. Expected a name for each label from 0 in `id2label`. "
            f"Received {str(table)[:60]}."
        )
    return tuple(map(str, names))


def _dilated(settings: Mapping[str, Any]) -> bool:
    """Whether timm's backbone is told to keep the resolution of its third stage."""
    options = settings.get("backbone_kwargs")
    options = options if isinstance(options, Mapping) else {}
    return 16 in (settings.get("output_stride"), options.get("output_stride"))


def _is_number(value: Any) -> bool:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and math.isfinite(value) and value >= 0


class _Reader:
    """Reads settings that have to agree with the tensors."""

    def __init__(self, content: Mapping[str, Any], net: DETRShape, where: str) -> None:
        self._content, self._net, self.where = content, net, where

    def refuse(self, expected: str, received: Any) -> None:
        raise CheckpointError(f"Invalid {self.where}. Expected {expected}. Received {received!r}.")

    def require(self, fixed: Mapping[str, tuple[Any, ...]]) -> None:
        for key, allowed in fixed.items():
            value = self._content.get(key)
            if value is not None and value not in allowed:
                self.refuse(f"`{key}` {' or '.join(map(repr, allowed))}", value)

    def depth(self, backbone: Any) -> None:
        found = re.search(r"resnet-?(\d+)", backbone) if isinstance(backbone, str) else None
        if found and int(found[1]) != self._net.depth:
            self.refuse(f"`backbone` resnet{self._net.depth}, as the tensors have", backbone)

    def flag(self, key: str) -> bool:
        value = self._content.get(key)
        if value is not None and not isinstance(value, bool):
            self.refuse(f"true or false for `{key}`", value)
        return bool(value)

    def read(self, rows: tuple[Row, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, targets, kind in rows:
            value = self._content.get(key)
            if value is None:
                continue
            words, good = _CHECKS[kind]
            if not good(value):
                self.refuse(f"{words} for `{key}`", value)
            if kind == "size":
                size = getattr(self._net, targets[0])
                if value != size:
                    self.refuse(f"`{key}` {size}, as the tensors have", value)
                continue
            if kind == "heads" and self._net.width % value:
                self.refuse(f"a divisor of {self._net.width} for `{key}`", value)
            if kind == "heads" and found.get("heads", value) != value:
                self.refuse(f"`{key}` {found['heads']}, as in the encoder", value)
            found.update(dict.fromkeys(targets, int(value) if kind == "heads" else value))
        return found
