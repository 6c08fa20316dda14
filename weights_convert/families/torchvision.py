"""torchvision: names and families of its classifier, RetinaNets and Faster R-CNNs."""

from __future__ import annotations

from .family import Family, Form
from .labels import COCO_SLOTS
from .networks import Classifier, FasterRCNNNetwork, RetinaNetNetwork
from .rename import RESNET, STEM_AND_STAGES, Table


def _retinanet(pyramid: str, tower: tuple[tuple[str, str], ...]) -> Table:
    """Table of a torchvision RetinaNet.

    Args:
        pyramid: What stands between a pyramid layer's index and "weight": "." or ".0.".
        tower: For each tower layer its names in the file and in ours.
    """
    return (
        *((f"backbone.body.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
        *((f"backbone.fpn.inner_blocks.{i}{pyramid}", f"neck.lateral.{i}.") for i in range(3)),
        *((f"backbone.fpn.layer_blocks.{i}{pyramid}", f"neck.output.{i}.") for i in range(3)),
        ("backbone.fpn.extra_blocks.p6.", "neck.extra.0."),
        ("backbone.fpn.extra_blocks.p7.", "neck.extra.1."),
        *((f"head.classification_head.conv.{a}", f"head.cls_tower.{b}") for a, b in tower),
        ("head.classification_head.cls_logits.", "head.cls_out."),
        *((f"head.regression_head.conv.{a}", f"head.box_tower.{b}") for a, b in tower),
        ("head.regression_head.bbox_reg.", "head.box_out."),
    )


#: Before torchvision 0.13 a ReLU sat between the convolutions of a tower: 0, 2, 4, 6.
_RETINANET_V1_FILE = _retinanet(".", tuple((f"{2 * i}.", f"{i}.conv.") for i in range(4)))
_RETINANET_V1_MODULE = _retinanet(".0.", tuple((f"{i}.0.", f"{i}.conv.") for i in range(4)))
_RETINANET_V2 = _retinanet(
    ".0.",
    tuple(
        pair for i in range(4) for pair in ((f"{i}.0.", f"{i}.conv."), (f"{i}.1.", f"{i}.norm."))
    ),
)


_BODY: Table = tuple((f"backbone.body.{part}", f"backbone.{part}") for part in STEM_AND_STAGES)
_OUTPUTS: Table = (
    ("rpn.head.cls_logits.", "rpn.cls_out."),
    ("rpn.head.bbox_pred.", "rpn.box_out."),
    ("roi_heads.box_predictor.cls_score.", "head.cls_out."),
    ("roi_heads.box_predictor.bbox_pred.", "head.box_out."),
)


def _faster_rcnn(pyramid: str, rpn: str) -> Table:
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
        *_OUTPUTS,
    )


_FASTER_RCNN_FILE = _faster_rcnn(".", ".")
_FASTER_RCNN_MODULE = _faster_rcnn(".0.", ".0.0.")
_FASTER_RCNN_V2: Table = (
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
    *_OUTPUTS,
)

_TV_STEM = "backbone.body.conv1.weight"
_EPS_0 = "batch norm runs frozen with eps 0, as the published COCO weights do"
_TV_RETINA = "head.classification_head.cls_logits.weight"
_TV_BOXES = "roi_heads.box_predictor.bbox_pred.weight"
_CLASSIFIER = Family(
    "torchvision_resnet",
    "an ImageNet ResNet of torchvision",
    Classifier(),
    (Form("", RESNET, ("bn1.running_var", "layer4.0.conv1.weight", "fc.weight")),),
)

_TORCHVISION = (
    Family(
        "torchvision_retinanet_v1",
        "torchvision's retinanet_resnet50_fpn",
        RetinaNetNetwork(extra_source="p5"),
        (
            Form(
                "file",
                _RETINANET_V1_FILE,
                (_TV_RETINA, "backbone.fpn.inner_blocks.0.weight"),
                _TV_STEM,
            ),
            Form(
                "module",
                _RETINANET_V1_MODULE,
                (
                    _TV_RETINA,
                    "backbone.fpn.inner_blocks.0.0.weight",
                    "head.classification_head.conv.0.0.bias",
                ),
                _TV_STEM,
            ),
        ),
        preset="torchvision_v1",
        slots=COCO_SLOTS,
        frozen_norm=True,
        norm_remark=_EPS_0,
    ),
    Family(
        "torchvision_retinanet_v2",
        "torchvision's retinanet_resnet50_fpn_v2",
        RetinaNetNetwork(head_norm=True),
        (
            Form(
                "",
                _RETINANET_V2,
                (_TV_RETINA, "head.classification_head.conv.0.1.weight"),
                _TV_STEM,
            ),
        ),
        preset="torchvision_v2",
        slots=COCO_SLOTS,
    ),
    Family(
        "torchvision_fasterrcnn_v1",
        "torchvision's fasterrcnn_resnet50_fpn",
        FasterRCNNNetwork(background_first=True),
        (
            Form(
                "file",
                _FASTER_RCNN_FILE,
                (_TV_BOXES, "roi_heads.box_head.fc6.weight", "rpn.head.conv.weight"),
                _TV_STEM,
            ),
            Form(
                "module",
                _FASTER_RCNN_MODULE,
                (_TV_BOXES, "roi_heads.box_head.fc6.weight", "rpn.head.conv.0.0.weight"),
                _TV_STEM,
            ),
        ),
        preset="torchvision_v1",
        slots=COCO_SLOTS,
        frozen_norm=True,
        norm_remark=_EPS_0,
    ),
    Family(
        "torchvision_fasterrcnn_v2",
        "torchvision's fasterrcnn_resnet50_fpn_v2",
        FasterRCNNNetwork(
            background_first=True, fpn_norm=True, rpn_convs=2, head_convs=4, head_fcs=1
        ),
        (
            Form(
                "",
                _FASTER_RCNN_V2,
                (_TV_BOXES, "roi_heads.box_head.5.weight", "rpn.head.conv.1.0.weight"),
                _TV_STEM,
            ),
        ),
        preset="torchvision_v2",
        slots=COCO_SLOTS,
    ),
)

#: In the order in which they are tried.
FAMILIES = (_CLASSIFIER, *_TORCHVISION)
