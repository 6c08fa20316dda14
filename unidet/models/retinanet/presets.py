"""The published forms of RetinaNet, each as an explicit set of constructor arguments.

A checkpoint gives its published accuracy only under the conventions that it was trained with, so
nothing is left to a default that might move: what a peer fixes is written out here.
"""

from __future__ import annotations

from typing import Any

from unidet.data.preprocess import PRESETS
from unidet.errors import suggestion
from unidet.models.boxes.anchors import octave_sizes, truncated_octave_sizes
from unidet.models.boxes.coder import LOG_LIMIT

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "scale": 255.0}

#: For training from scratch or from an ImageNet backbone.
_DEFAULT: dict[str, Any] = {
    "num_classes": 80,
    "background_slot": None,
    "norm": "batch",
    "norm_eps": 1e-5,
    "norm_eval": False,
    "stride_in_1x1": False,
    "frozen_stages": -1,
    "fpn_channels": 256,
    "extra_source": "p5",
    "extra_relu": True,
    "upsample": "size",
    "head_channels": None,
    "head_depth": 4,
    "head_norm": "group",
    "head_groups": 32,
    "anchor_sizes": octave_sizes(),
    "anchor_ratios": (0.5, 1.0, 2.0),
    "anchor_strides": (8, 16, 32, 64, 128),
    "anchor_rounding": False,
    "anchor_offset": 0.5,
    "anchor_stride_rule": "nominal",
    "anchor_order": "ratio",
    "box_std": (1.0, 1.0, 1.0, 1.0),
    "box_log_limit": LOG_LIMIT,
    "box_log_limit_both": False,
    "box_min_side": 0.0,
    "positive_iou": 0.5,
    "negative_iou": 0.4,
    "low_quality": "target",
    "ignore_overlap": 0.5,
    "focal_alpha": 0.25,
    "focal_gamma": 2.0,
    "focal_clamp": None,
    "normalizer": "batch",
    "box_loss": "giou",
    "box_beta": 1 / 9,
    "box_reduction": "sum",
    "box_weight": 1.0,
    "prior": 0.01,
    "init": "torchvision",
    "score_threshold": 0.05,
    "pre_nms": 1000,
    "nms_iou": 0.5,
    "max_detections": 100,
    "clip": "before_nms",
    "preprocess": {**_IMAGENET, "resize": "mmdet", "min_size": 800, "max_size": 1333},
}

#: yhenon/pytorch-retinanet and HKU-DASC7606-A1.
_YHENON: dict[str, Any] = {
    **_DEFAULT,
    "norm_eval": True,
    "extra_source": "c5",
    "upsample": "factor2",
    "head_norm": None,
    "box_std": (0.1, 0.1, 0.2, 0.2),
    "box_log_limit": None,
    "box_min_side": 1.0,
    "low_quality": None,
    "ignore_overlap": None,
    "focal_clamp": 1e-4,
    "normalizer": "image",
    "box_loss": "smooth_l1",
    "box_reduction": "mean",
    "init": "yhenon",
    "pre_nms": None,
    "max_detections": None,
    "clip": "one_sided",
    "preprocess": {
        **_IMAGENET,
        "resize": "yhenon",
        "min_size": 608,
        "max_size": 1024,
        "pad_extra": True,
    },
}

#: torchvision's retinanet_resnet50_fpn (Lin et al. 2017). Slot 0 of 91 is the background, the
#: other slots are COCO ids. The published COCO weights run with eps 0.
_TORCHVISION_V1: dict[str, Any] = {
    **_DEFAULT,
    "num_classes": 91,
    "background_slot": 0,
    "norm": "frozen",
    "norm_eps": 0.0,
    "frozen_stages": 1,
    "head_norm": None,
    "anchor_sizes": truncated_octave_sizes(),
    "anchor_rounding": True,
    "anchor_offset": 0.0,
    "anchor_stride_rule": "measured",
    "low_quality": "anchor",
    "ignore_overlap": None,
    "normalizer": "image",
    "box_loss": "l1",
    "max_detections": 300,
    "preprocess": {**_IMAGENET, "resize": "torchvision", "min_size": 800, "max_size": 1333},
}

#: torchvision's retinanet_resnet50_fpn_v2 (Zhang et al. 2020).
_TORCHVISION_V2: dict[str, Any] = {
    **_TORCHVISION_V1,
    "norm": "batch",
    "norm_eps": 1e-5,
    "frozen_stages": -1,
    "extra_source": "c5",
    "head_norm": "group",
    "box_loss": "giou",
}

#: mmdetection's retinanet_r50_fpn.
_MMDET: dict[str, Any] = {
    **_DEFAULT,
    "norm_eval": True,
    "frozen_stages": 1,
    "extra_source": "c5",
    "extra_relu": False,
    "head_norm": None,
    "anchor_offset": 0.0,
    "box_log_limit_both": True,
    "ignore_overlap": None,
    "box_loss": "l1",
    "init": "mmdet",
    "preprocess": {
        "mean": (123.675, 116.28, 103.53),
        "std": (58.395, 57.12, 57.375),
        "scale": 1.0,
        "resize": "mmdet",
        "min_size": 800,
        "max_size": 1333,
    },
}

#: mmdetection's retinanet_r50_caffe_fpn: Detectron's ResNet, whose norms never train.
_MMDET_CAFFE: dict[str, Any] = {
    **_MMDET,
    "norm": "frozen",
    "stride_in_1x1": True,
    "preprocess": dict(PRESETS["mmdet_caffe"], min_size=800, max_size=1333),
}

#: detectron2's retinanet_R_50_FPN.
_DETECTRON2: dict[str, Any] = {
    **_DEFAULT,
    "norm": "frozen",
    "stride_in_1x1": True,
    "frozen_stages": 1,
    "extra_source": "c5",
    "upsample": "factor2",
    "head_norm": None,
    "anchor_offset": 0.0,
    "anchor_order": "size",
    "low_quality": "anchor",
    "ignore_overlap": None,
    "normalizer": "moving",
    "box_loss": "l1",
    "clip": "after_nms",
    "preprocess": dict(PRESETS["detectron2"], min_size=800, max_size=1333),
}

DIALECTS: dict[str, dict[str, Any]] = {
    "default": _DEFAULT,
    "yhenon": _YHENON,
    "torchvision_v1": _TORCHVISION_V1,
    "torchvision_v2": _TORCHVISION_V2,
    "mmdet": _MMDET,
    "mmdet_caffe": _MMDET_CAFFE,
    "detectron2": _DETECTRON2,
}


def dialect(name: str) -> dict[str, Any]:
    """Arguments of a dialect, all but ``depth``.

    Raises:
        ValueError: an unknown name.
    """
    if name not in DIALECTS:
        raise ValueError(
            f"Invalid value for `dialect`. Expected one of {', '.join(DIALECTS)}. "
            f"Received {name!r}.{suggestion(name, DIALECTS)}"
        )
    return dict(DIALECTS[name])
