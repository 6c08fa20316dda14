"""Presets of Faster R-CNN: the published forms, each as what it changes in the defaults.

``tests/models/presets.json`` holds every value of every preset, so that none moves unnoticed.
"""

from __future__ import annotations

from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess


def _preprocess(preset: str, **changes: Any) -> dict[str, Any]:
    return Preprocess(**{**PRESETS[preset], **changes}).to_dict()


#: What turns a pyramid into a single map with the last stage in the head.
_C4: dict[str, Any] = {
    "style": "c4",
    "head": "res5",
    "roi_size": 14,
    "anchor_sizes": ((32.0, 64.0, 128.0, 256.0, 512.0),),
    "anchor_strides": (16,),
    "rpn_pre_nms_train": 12000,
    "rpn_pre_nms_test": 6000,
    "rpn_post_nms_train": 2000,
    "rpn_post_nms_test": 1000,
}

#: torchvision's fasterrcnn_resnet50_fpn. Slot 0 of 91 is the background, the other slots are COCO
#: ids. The published COCO weights run with eps 0.
_TORCHVISION_V1: dict[str, Any] = {
    "num_classes": 91,
    "background_slot": 0,
    "norm": "frozen",
    "norm_eps": 0.0,
    "frozen_stages": 1,
    "anchor_rounding": True,
    "anchor_offset": 0.0,
    "anchor_stride_rule": "measured",
    "rpn_low_quality": "anchor",
    "rpn_low_quality_iou": 0.0,
    "rpn_post_nms_train": 2000,
    "rpn_min_side": 1e-3,
    "rpn_loss": "smooth_l1",
    "roi_sampling_ratio": 2,
    "roi_aligned": False,
    "roi_level_rule": "torchvision",
    "background": "first",
    "box_background": True,
    "ignore_overlap": None,
    "box_loss": "smooth_l1",
    "init": "torchvision",
    "min_side": 1e-2,
    "preprocess": _preprocess("torchvision"),
}

#: torchvision's fasterrcnn_resnet50_fpn_v2 (Li et al. 2021): batch norm throughout, which trains.
_TORCHVISION_V2: dict[str, Any] = {
    **_TORCHVISION_V1,
    "norm": "batch",
    "norm_eps": 1e-5,
    "frozen_stages": -1,
    "fpn_norm": "batch",
    "rpn_convs": 2,
    "head": "4conv1fc",
    "head_norm": "batch",
}

#: mmdetection's faster_rcnn_r50_fpn, style pytorch.
_MMDET: dict[str, Any] = {
    "norm_eval": True,
    "frozen_stages": 1,
    "anchor_offset": 0.0,
    "rpn_normalizer": "sampled_each",
    "box_log_limit_both": True,
    "ignore_overlap": None,
    "rescale": "before_nms",
    "preprocess": _preprocess("mmdet"),
}

#: mmdetection, style caffe: Detectron's ResNet, whose norms never train.
_MMDET_CAFFE: dict[str, Any] = {
    **_MMDET,
    "norm": "frozen",
    "stride_in_1x1": True,
    "preprocess": _preprocess("mmdet_caffe"),
}

#: detectron2's faster_rcnn_R_50_FPN.
_DETECTRON2: dict[str, Any] = {
    "norm": "frozen",
    "stride_in_1x1": True,
    "frozen_stages": 1,
    "upsample": "factor2",
    "anchor_offset": 0.0,
    "anchor_order": "size",
    "rpn_low_quality": "anchor",
    "rpn_low_quality_iou": 0.0,
    "rpn_normalizer": "constant",
    "roi_level_rule": "detectron2",
    "ignore_overlap": None,
    "init": "detectron2",
    "drop_empty": True,
    "preprocess": _preprocess("detectron2"),
}

#: What each preset changes in the defaults of ``FasterRCNNConfig``: by style, then by name.
PRESETS_BY_NAME: dict[str, dict[str, dict[str, Any]]] = {
    "fpn": {
        "default": {},
        "torchvision_v1": _TORCHVISION_V1,
        "torchvision_v2": _TORCHVISION_V2,
        "mmdet": _MMDET,
        "mmdet_caffe": _MMDET_CAFFE,
        "detectron2": _DETECTRON2,
    },
    "c4": {
        "default": _C4,
        # mmdetection's C4 models leave out anchors that cross the border of the image.
        "mmdet_caffe": {**_MMDET_CAFFE, **_C4, "rpn_border": 0.0},
        "detectron2": {
            **_DETECTRON2,
            **_C4,
            "preprocess": _preprocess("detectron2", pad_divisor=1),
        },
    },
}
