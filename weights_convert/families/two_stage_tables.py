"""Names of two-stage detectors in published files and in ours."""

from __future__ import annotations

from .tables import STEM_AND_STAGES, Table, detectron2_block, detectron2_resnet

_BODY: Table = tuple((f"backbone.body.{part}", f"backbone.{part}") for part in STEM_AND_STAGES)
_TORCHVISION_ANSWERS: Table = (
    ("rpn.head.cls_logits.", "rpn.cls_out."),
    ("rpn.head.bbox_pred.", "rpn.box_out."),
    ("roi_heads.box_predictor.cls_score.", "head.cls_out."),
    ("roi_heads.box_predictor.bbox_pred.", "head.box_out."),
)


def _torchvision_v1(pyramid: str, rpn: str) -> Table:
    """Table of torchvision's Faster R-CNN.

    Args:
        pyramid: What stands between a pyramid layer's index and "weight".
        rpn: What stands between "conv" and "weight" in the RPN.
    """
    return (
        *_BODY,
        *((f"backbone.fpn.inner_blocks.{i}{pyramid}", f"neck.lateral.{i}.") for i in range(4)),
        *((f"backbone.fpn.layer_blocks.{i}{pyramid}", f"neck.output.{i}.") for i in range(4)),
        (f"rpn.head.conv{rpn}", "rpn.convs.0."),
        ("roi_heads.box_head.fc6.", "head.fcs.0."),
        ("roi_heads.box_head.fc7.", "head.fcs.1."),
        *_TORCHVISION_ANSWERS,
    )


TORCHVISION_FRCNN_FILE = _torchvision_v1(".", ".")
TORCHVISION_FRCNN_MODULE = _torchvision_v1(".0.", ".0.0.")
TORCHVISION_FRCNN_V2: Table = (
    *_BODY,
    *((f"backbone.fpn.inner_blocks.{i}.0.", f"neck.lateral.{i}.") for i in range(4)),
    *((f"backbone.fpn.inner_blocks.{i}.1.", f"neck.lateral_norm.{i}.") for i in range(4)),
    *((f"backbone.fpn.layer_blocks.{i}.0.", f"neck.output.{i}.") for i in range(4)),
    *((f"backbone.fpn.layer_blocks.{i}.1.", f"neck.output_norm.{i}.") for i in range(4)),
    *((f"rpn.head.conv.{i}.0.", f"rpn.convs.{i}.") for i in range(2)),
    *((f"roi_heads.box_head.{i}.0.", f"head.convs.{i}.") for i in range(4)),
    *((f"roi_heads.box_head.{i}.1.", f"head.norms.{i}.") for i in range(4)),
    # 4 flattens.
    ("roi_heads.box_head.5.", "head.fcs.0."),
    *_TORCHVISION_ANSWERS,
)


def _mmdet(box_head: str) -> Table:
    """Table of mmdetection's Faster R-CNN; ``box_head`` leads to its last layers."""
    return (
        *((f"backbone.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
        *((f"neck.lateral_convs.{i}.conv.", f"neck.lateral.{i}.") for i in range(4)),
        *((f"neck.fpn_convs.{i}.conv.", f"neck.output.{i}.") for i in range(4)),
        ("rpn_head.rpn_conv.", "rpn.convs.0."),
        ("rpn_head.rpn_cls.", "rpn.cls_out."),
        ("rpn_head.rpn_reg.", "rpn.box_out."),
        *((f"{box_head}shared_fcs.{i}.", f"head.fcs.{i}.") for i in range(2)),
        (f"{box_head}fc_cls.", "head.cls_out."),
        (f"{box_head}fc_reg.", "head.box_out."),
    )


MMDET_FRCNN = _mmdet("roi_head.bbox_head.")
#: Before 2.0 the box head stood at the top.
MMDET_FRCNN_1X = _mmdet("bbox_head.")
MMDET_FRCNN_C4: Table = (
    ("roi_head.shared_head.layer4.", "head.res5."),
    *(
        row
        for row in MMDET_FRCNN
        if not row[1].startswith(("neck.", "head.fcs.", "backbone.layer4"))
    ),
)

_DETECTRON2_ANSWERS: Table = (
    ("proposal_generator.rpn_head.conv.", "rpn.convs.0."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.cls_out."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.box_out."),
    ("roi_heads.box_predictor.cls_score.", "head.cls_out."),
    ("roi_heads.box_predictor.bbox_pred.", "head.box_out."),
)
DETECTRON2_FRCNN: Table = (
    *detectron2_resnet("backbone.bottom_up."),
    *((f"backbone.fpn_lateral{i + 2}.", f"neck.lateral.{i}.") for i in range(4)),
    *((f"backbone.fpn_output{i + 2}.", f"neck.output.{i}.") for i in range(4)),
    ("roi_heads.box_head.fc1.", "head.fcs.0."),
    ("roi_heads.box_head.fc2.", "head.fcs.1."),
    *_DETECTRON2_ANSWERS,
)
DETECTRON2_FRCNN_C4: Table = (
    *detectron2_resnet("backbone.", stages=3),
    *(row for i in range(3) for row in detectron2_block(f"roi_heads.res5.{i}.", f"head.res5.{i}.")),
    *_DETECTRON2_ANSWERS,
)
