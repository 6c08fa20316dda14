"""mmdetection: names and families of its RetinaNets and Faster R-CNNs."""

from __future__ import annotations

from .family import Family, Form
from .networks import FasterRCNNNetwork, RetinaNetNetwork
from .rename import STEM_AND_STAGES, Table
from .styles import CAFFE

_RETINANET: Table = (
    *((f"backbone.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
    *((f"neck.lateral_convs.{i}.conv.", f"neck.lateral.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i}.conv.", f"neck.output.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i + 3}.conv.", f"neck.extra.{i}.") for i in range(2)),
    *((f"bbox_head.cls_convs.{i}.conv.", f"head.cls_tower.{i}.conv.") for i in range(4)),
    ("bbox_head.retina_cls.", "head.cls_out."),
    *((f"bbox_head.reg_convs.{i}.conv.", f"head.box_tower.{i}.conv.") for i in range(4)),
    ("bbox_head.retina_reg.", "head.box_out."),
)


def _faster_rcnn(box_head: str) -> Table:
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


_FASTER_RCNN = _faster_rcnn("roi_head.bbox_head.")
#: Before 2.0 the box head stood at the top.
_FASTER_RCNN_1X = _faster_rcnn("bbox_head.")
_FASTER_RCNN_C4: Table = (
    ("roi_head.shared_head.layer4.", "head.res5."),
    *(
        row
        for row in _FASTER_RCNN
        if not row[1].startswith(("neck.", "head.fcs.", "backbone.layer4"))
    ),
)

#: Buffers of mmdetection 3.x that are in some files.
_MMDET_IGNORED = (r"data_preprocessor\.(mean|std)",)
_MMDET_RETINA = (
    Form(
        "",
        _RETINANET,
        ("bbox_head.retina_cls.weight", "neck.fpn_convs.3.conv.weight"),
        "backbone.conv1.weight",
    ),
)
#: What UniDetector's and OLN's files have and these families have not.
_OPEN_WORLD = ("rpn_head.rpn_obj.weight", "roi_head.bbox_head.fc_bbox_score.weight")
_LEGACY = (
    "mmdetection before 2.0 counted the last pixel of a box (+1) in anchors, box deltas, RoIs and "
    "NMS, and centred its rounded anchors differently: those are not reproduced, so boxes are off "
    "by about a pixel; background first, its box rows and the unaligned RoIAlign are reproduced"
)
_MMDET_FRCNN = (
    Form(
        "",
        _FASTER_RCNN,
        (
            "roi_head.bbox_head.fc_cls.weight",
            "roi_head.bbox_head.shared_fcs.1.weight",
            "rpn_head.rpn_conv.weight",
            "neck.lateral_convs.3.conv.weight",
        ),
        "backbone.conv1.weight",
        _OPEN_WORLD,
    ),
    Form(
        "1.x",
        _FASTER_RCNN_1X,
        (
            "bbox_head.fc_cls.weight",
            "bbox_head.shared_fcs.1.weight",
            "rpn_head.rpn_conv.weight",
            "neck.lateral_convs.3.conv.weight",
        ),
        "backbone.conv1.weight",
        network=FasterRCNNNetwork(background_first=True),
        arguments={
            "background": "first",
            "background_slot": 0,
            "box_background": True,
            "roi_aligned": False,
            "roi_sampling_ratio": 2,
        },
        remark=_LEGACY,
    ),
)

#: In the order in which they are tried.
FAMILIES = (
    Family(
        "mmdet_retinanet",
        "mmdetection's retinanet_r50_fpn",
        RetinaNetNetwork(),
        _MMDET_RETINA,
        preset="mmdet",
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
    ),
    Family(
        "mmdet_retinanet_caffe",
        "mmdetection's retinanet_r50_caffe_fpn",
        RetinaNetNetwork(),
        _MMDET_RETINA,
        preset="mmdet_caffe",
        counts_unused=True,
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
        variant_of="mmdet_retinanet",
        style=CAFFE,
    ),
    Family(
        "mmdet_faster_rcnn",
        "mmdetection's faster_rcnn_r50_fpn",
        FasterRCNNNetwork(),
        _MMDET_FRCNN,
        preset="mmdet",
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
    ),
    Family(
        "mmdet_faster_rcnn_caffe",
        "mmdetection's faster_rcnn_r50_caffe_fpn",
        FasterRCNNNetwork(),
        _MMDET_FRCNN,
        preset="mmdet_caffe",
        counts_unused=True,
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
        variant_of="mmdet_faster_rcnn",
        style=CAFFE,
    ),
    Family(
        "mmdet_faster_rcnn_c4",
        "mmdetection's faster_rcnn_r50_caffe_c4",
        FasterRCNNNetwork(style="c4", head_fcs=0),
        (
            Form(
                "",
                _FASTER_RCNN_C4,
                (
                    "roi_head.bbox_head.fc_cls.weight",
                    "roi_head.shared_head.layer4.0.conv1.weight",
                    "rpn_head.rpn_conv.weight",
                ),
                "backbone.conv1.weight",
                _OPEN_WORLD,
            ),
        ),
        preset="mmdet_caffe",
        counts_unused=True,
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
    ),
)
