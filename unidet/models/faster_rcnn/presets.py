"""The published forms of Faster R-CNN, each as an explicit set of constructor arguments.

As in :mod:`unidet.models.retinanet.presets`, what a peer fixes is written out, so that no default
moves the numbers of an imported checkpoint.
"""

from __future__ import annotations

from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.errors import suggestion
from unidet.models.boxes.coder import LOG_LIMIT


def _preprocess(preset: str, **changes: Any) -> dict[str, Any]:
    return Preprocess(**{**PRESETS[preset], **changes}).to_dict()


#: For training from scratch or from an ImageNet backbone.
_DEFAULT: dict[str, Any] = {
    "num_classes": 80,
    "style": "fpn",
    "background_slot": None,
    "norm": "batch",
    "norm_eps": 1e-5,
    "norm_eval": False,
    "stride_in_1x1": False,
    "frozen_stages": -1,
    "fpn_channels": 256,
    "fpn_norm": None,
    "upsample": "size",
    "rpn_convs": 1,
    "anchor_sizes": ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
    "anchor_ratios": (0.5, 1.0, 2.0),
    "anchor_strides": (4, 8, 16, 32, 64),
    "anchor_rounding": False,
    "anchor_offset": 0.5,
    "anchor_stride_rule": "nominal",
    "anchor_order": "ratio",
    "rpn_positive_iou": 0.7,
    "rpn_negative_iou": 0.3,
    "rpn_low_quality": "target",
    "rpn_low_quality_iou": 0.3,
    "rpn_batch": 256,
    "rpn_positive_fraction": 0.5,
    "rpn_border": None,
    "rpn_pre_nms_train": 2000,
    "rpn_pre_nms_test": 1000,
    "rpn_post_nms_train": 1000,
    "rpn_post_nms_test": 1000,
    "rpn_nms_iou": 0.7,
    "rpn_min_side": 0.0,
    "rpn_score_threshold": 0.0,
    "rpn_loss": "l1",
    "rpn_beta": 1 / 9,
    "rpn_normalizer": "sampled",
    "roi_size": 7,
    "roi_sampling_ratio": 0,
    "roi_aligned": True,
    "roi_level_rule": "mmdet",
    "head": "2fc",
    "head_channels": 1024,
    "head_norm": None,
    "class_agnostic": False,
    "background": "last",
    "box_background": False,
    "roi_positive_iou": 0.5,
    "roi_negative_iou": 0.5,
    "roi_low_quality": None,
    "roi_batch": 512,
    "roi_positive_fraction": 0.25,
    "add_ground_truth": True,
    "ignore_overlap": 0.5,
    "box_std": (0.1, 0.1, 0.2, 0.2),
    "box_log_limit": LOG_LIMIT,
    "box_log_limit_both": False,
    "box_loss": "l1",
    "box_beta": 1 / 9,
    "box_weight": 1.0,
    "init": "mmdet",
    "score_threshold": 0.05,
    "nms_iou": 0.5,
    "soft_nms": None,
    "soft_sigma": 0.5,
    "soft_min_score": 1e-3,
    "max_detections": 100,
    "min_side": 0.0,
    "drop_empty": False,
    "rescale": "after_nms",
    "preprocess": _preprocess("torchvision", resize="mmdet"),
}

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
    **_DEFAULT,
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
    **_DEFAULT,
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
    **_DEFAULT,
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

#: By style, then by dialect.
DIALECTS: dict[str, dict[str, dict[str, Any]]] = {
    "fpn": {
        "default": _DEFAULT,
        "torchvision_v1": _TORCHVISION_V1,
        "torchvision_v2": _TORCHVISION_V2,
        "mmdet": _MMDET,
        "mmdet_caffe": _MMDET_CAFFE,
        "detectron2": _DETECTRON2,
    },
    "c4": {
        "default": {**_DEFAULT, **_C4},
        # mmdetection's C4 models leave out anchors that cross the border of the image.
        "mmdet_caffe": {**_MMDET_CAFFE, **_C4, "rpn_border": 0.0},
        "detectron2": {
            **_DETECTRON2,
            **_C4,
            "preprocess": _preprocess("detectron2", pad_divisor=1),
        },
    },
}


def dialect(name: str, style: str = "fpn") -> dict[str, Any]:
    """Arguments of a dialect, all but ``depth``.

    Args:
        name: of the dialect.
        style: ``"fpn"`` or ``"c4"``.

    Raises:
        ValueError: an unknown name.
    """
    for key, value, known in (("style", style, DIALECTS), ("dialect", name, DIALECTS.get(style))):
        if known is not None and value not in known:
            raise ValueError(
                f"Invalid value for `{key}`. Expected one of {', '.join(known)}. "
                f"Received {value!r}.{suggestion(value, known)}"
            )
    return dict(DIALECTS[style][name])
