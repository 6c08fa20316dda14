"""The published FCOS files of mmdetection and how their names become ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unidet.weights_convert.families import infer_depth, model_family


def _infer(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the model that a file with these shapes was made from."""
    name = f"fcos_r{infer_depth(shapes, 'backbone.')}_fpn"
    return name, {"num_classes": shapes["head.cls_out.weight"][0]}


TABLE = (
    ("backbone.", "backbone."),
    *((f"neck.lateral_convs.{i}.conv.", f"neck.lateral.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i}.conv.", f"neck.output.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i + 3}.conv.", f"neck.extra.{i}.") for i in range(2)),
    *(
        (f"bbox_head.{theirs}_convs.{i}.{part}.", f"head.{ours}_tower.{i}.{name}.")
        for theirs, ours in (("cls", "cls"), ("reg", "box"))
        for i in range(4)
        for part, name in (("conv", "conv"), ("gn", "norm"))
    ),
    ("bbox_head.conv_cls.", "head.cls_out."),
    ("bbox_head.conv_reg.", "head.box_out."),
    ("bbox_head.conv_centerness.", "head.centerness_out."),
    *((f"bbox_head.scales.{i}.scale", f"head.scale_{i}") for i in range(5)),
)

FAMILY = model_family(
    "mmdet_fcos",
    "mmdetection's fcos_r50_caffe_fpn_gn-head",
    models=r"fcos_r\d+_fpn",
    infer=_infer,
    table=TABLE,
    signature=("bbox_head.conv_centerness.weight", "bbox_head.scales.0.scale"),
    stem="backbone.conv1.weight",
    preset="mmdet",
    counts_unused=True,
    wrapper="state_dict",
)
