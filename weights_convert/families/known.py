"""The published checkpoints that can be imported and exported."""

from __future__ import annotations

import numpy as np

from . import tables
from . import two_stage_tables as two_stage
from .detr import DETR
from .family import DETECTRON2_AUTHOR, Family, Form
from .labels import COCO_SLOTS
from .networks import Classifier, FasterRCNNNetwork, RetinaNetNetwork
from .open_world import OPEN_WORLD
from .styles import CAFFE

_TV_STEM = "backbone.body.conv1.weight"
_D2_STEM = "backbone.bottom_up.stem.conv1.weight"
_EPS_0 = "batch norm runs frozen with eps 0, as the published COCO weights do"
#: What old files of detectron2 carry beside the weights; anchors and preprocessing are arguments.
_D2_IGNORED = (
    r"(proposal_generator\.)?anchor_generator\.cell_anchors\.\d+",
    r"pixel_(mean|std)",
)
#: Buffers of mmdetection 3.x that are in some files.
_MMDET_IGNORED = (r"data_preprocessor\.(mean|std)",)

_TV_RETINA = "head.classification_head.cls_logits.weight"
_TV_BOXES = "roi_heads.box_predictor.bbox_pred.weight"
_CLASSIFIER = Family(
    "torchvision_resnet",
    "an ImageNet ResNet of torchvision",
    Classifier(),
    (Form("", tables.RESNET, ("bn1.running_var", "layer4.0.conv1.weight", "fc.weight")),),
)

_TORCHVISION = (
    Family(
        "torchvision_retinanet_v1",
        "torchvision's retinanet_resnet50_fpn",
        RetinaNetNetwork(extra_source="p5"),
        (
            Form(
                "file",
                tables.TORCHVISION_V1_FILE,
                (_TV_RETINA, "backbone.fpn.inner_blocks.0.weight"),
                _TV_STEM,
            ),
            Form(
                "module",
                tables.TORCHVISION_V1_MODULE,
                (
                    _TV_RETINA,
                    "backbone.fpn.inner_blocks.0.0.weight",
                    "head.classification_head.conv.0.0.bias",
                ),
                _TV_STEM,
            ),
        ),
        dialect="torchvision_v1",
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
                tables.TORCHVISION_V2,
                (_TV_RETINA, "head.classification_head.conv.0.1.weight"),
                _TV_STEM,
            ),
        ),
        dialect="torchvision_v2",
        slots=COCO_SLOTS,
    ),
    Family(
        "torchvision_fasterrcnn_v1",
        "torchvision's fasterrcnn_resnet50_fpn",
        FasterRCNNNetwork(background_first=True),
        (
            Form(
                "file",
                two_stage.TORCHVISION_FRCNN_FILE,
                (_TV_BOXES, "roi_heads.box_head.fc6.weight", "rpn.head.conv.weight"),
                _TV_STEM,
            ),
            Form(
                "module",
                two_stage.TORCHVISION_FRCNN_MODULE,
                (_TV_BOXES, "roi_heads.box_head.fc6.weight", "rpn.head.conv.0.0.weight"),
                _TV_STEM,
            ),
        ),
        dialect="torchvision_v1",
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
                two_stage.TORCHVISION_FRCNN_V2,
                (_TV_BOXES, "roi_heads.box_head.5.weight", "rpn.head.conv.1.0.weight"),
                _TV_STEM,
            ),
        ),
        dialect="torchvision_v2",
        slots=COCO_SLOTS,
    ),
)

_MMDET_RETINA = (
    Form(
        "",
        tables.MMDET,
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
        two_stage.MMDET_FRCNN,
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
        two_stage.MMDET_FRCNN_1X,
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

_MMDET = (
    Family(
        "mmdet_retinanet",
        "mmdetection's retinanet_r50_fpn",
        RetinaNetNetwork(),
        _MMDET_RETINA,
        dialect="mmdet",
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
    ),
    Family(
        "mmdet_retinanet_caffe",
        "mmdetection's retinanet_r50_caffe_fpn",
        RetinaNetNetwork(),
        _MMDET_RETINA,
        dialect="mmdet_caffe",
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
        dialect="mmdet",
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
    ),
    Family(
        "mmdet_faster_rcnn_caffe",
        "mmdetection's faster_rcnn_r50_caffe_fpn",
        FasterRCNNNetwork(),
        _MMDET_FRCNN,
        dialect="mmdet_caffe",
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
                two_stage.MMDET_FRCNN_C4,
                (
                    "roi_head.bbox_head.fc_cls.weight",
                    "roi_head.shared_head.layer4.0.conv1.weight",
                    "rpn_head.rpn_conv.weight",
                ),
                "backbone.conv1.weight",
                _OPEN_WORLD,
            ),
        ),
        dialect="mmdet_caffe",
        counts_unused=True,
        ignored=_MMDET_IGNORED,
        wrapper="state_dict",
    ),
)

_DETECTRON2 = (
    Family(
        "detectron2_retinanet",
        "detectron2's retinanet_R_50_FPN",
        # detectron2 keeps the divisor of its losses outside the file and starts it anew.
        RetinaNetNetwork(own={"loss_divisor": np.full(1, 100, np.float32)}),
        (
            Form(
                "", tables.DETECTRON2, ("head.cls_subnet.0.weight", "head.cls_score.bias"), _D2_STEM
            ),
        ),
        dialect="detectron2",
        frozen_norm=True,
        ignored=_D2_IGNORED,
        wrapper="model",
        constants=DETECTRON2_AUTHOR,
    ),
    Family(
        "detectron2_faster_rcnn",
        "detectron2's faster_rcnn_R_50_FPN",
        FasterRCNNNetwork(),
        (
            Form(
                "",
                two_stage.DETECTRON2_FRCNN,
                ("proposal_generator.rpn_head.conv.weight", "roi_heads.box_head.fc1.weight"),
                _D2_STEM,
            ),
        ),
        dialect="detectron2",
        frozen_norm=True,
        ignored=_D2_IGNORED,
        wrapper="model",
        constants=DETECTRON2_AUTHOR,
    ),
    Family(
        "detectron2_faster_rcnn_c4",
        "detectron2's faster_rcnn_R_50_C4",
        FasterRCNNNetwork(style="c4", head_fcs=0),
        (
            Form(
                "",
                two_stage.DETECTRON2_FRCNN_C4,
                ("proposal_generator.rpn_head.conv.weight", "roi_heads.res5.0.conv1.weight"),
                "backbone.stem.conv1.weight",
            ),
        ),
        dialect="detectron2",
        frozen_norm=True,
        ignored=_D2_IGNORED,
        wrapper="model",
        constants=DETECTRON2_AUTHOR,
    ),
)

_YHENON = Family(
    "yhenon_retinanet",
    "a RetinaNet of yhenon/pytorch-retinanet",
    RetinaNetNetwork(),
    (
        Form(
            "",
            tables.YHENON,
            ("classificationModel.output.weight", "regressionModel.output.weight"),
        ),
    ),
    dialect="yhenon",
)

#: All families by name.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(_CLASSIFIER, *_TORCHVISION, *_MMDET, *_DETECTRON2, _YHENON),
        *OPEN_WORLD,
        *DETR,
    )
}
