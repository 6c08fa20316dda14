"""Presets of RetinaNet: the published forms, each as what it changes in the defaults.

A checkpoint gives its published accuracy only under the conventions that it was trained with.
``tests/models/presets.json`` holds every value of every preset, so that none moves unnoticed.
"""

from __future__ import annotations

from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.models.boxes.anchors import truncated_octave_sizes

#: What the published forms have in common, in contrast to the defaults.
_PUBLISHED: dict[str, Any] = {"head_norm": None, "ignore_overlap": None}

#: torchvision's retinanet_resnet50_fpn (Lin et al. 2017). Slot 0 of 91 is the background, the
#: other slots are COCO ids. The published COCO weights run with eps 0.
_TORCHVISION_V1: dict[str, Any] = {
    **_PUBLISHED,
    "num_classes": 91,
    "background_slot": 0,
    "norm": "frozen",
    "norm_eps": 0.0,
    "frozen_stages": 1,
    "anchor_sizes": truncated_octave_sizes(),
    "anchor_rounding": True,
    "anchor_offset": 0.0,
    "anchor_stride_rule": "measured",
    "low_quality": "anchor",
    "normalizer": "image",
    "box_loss": "l1",
    "max_detections": 300,
    "preprocess": Preprocess(**PRESETS["torchvision"]).to_dict(),
}

#: mmdetection's retinanet_r50_fpn.
_MMDET: dict[str, Any] = {
    **_PUBLISHED,
    "norm_eval": True,
    "frozen_stages": 1,
    "extra_source": "c5",
    "extra_relu": False,
    "anchor_offset": 0.0,
    "box_log_limit_both": True,
    "box_loss": "l1",
    "init": "mmdet",
    "preprocess": Preprocess(**PRESETS["mmdet"]).to_dict(),
}

#: What each preset changes in the defaults of ``RetinaNetConfig``.
PRESETS_BY_NAME: dict[str, dict[str, Any]] = {
    "default": {},
    # yhenon/pytorch-retinanet and HKU-DASC7606-A1.
    "yhenon": {
        **_PUBLISHED,
        "norm_eval": True,
        "extra_source": "c5",
        "upsample": "factor2",
        "box_std": (0.1, 0.1, 0.2, 0.2),
        "box_log_limit": None,
        "box_min_side": 1.0,
        "low_quality": None,
        "focal_clamp": 1e-4,
        "normalizer": "image",
        "box_loss": "smooth_l1",
        "box_reduction": "mean",
        "init": "yhenon",
        "pre_nms": None,
        "max_detections": None,
        "clip": "one_sided",
        "preprocess": Preprocess(**PRESETS["yhenon"]).to_dict(),
    },
    "torchvision_v1": _TORCHVISION_V1,
    # torchvision's retinanet_resnet50_fpn_v2 (Zhang et al. 2020).
    "torchvision_v2": {
        **_TORCHVISION_V1,
        "norm": "batch",
        "norm_eps": 1e-5,
        "frozen_stages": -1,
        "extra_source": "c5",
        "head_norm": "group",
        "box_loss": "giou",
    },
    "mmdet": _MMDET,
    # mmdetection's retinanet_r50_caffe_fpn: Detectron's ResNet, whose norms never train.
    "mmdet_caffe": {
        **_MMDET,
        "norm": "frozen",
        "stride_in_1x1": True,
        "preprocess": Preprocess(**PRESETS["mmdet_caffe"]).to_dict(),
    },
    # detectron2's retinanet_R_50_FPN.
    "detectron2": {
        **_PUBLISHED,
        "norm": "frozen",
        "stride_in_1x1": True,
        "frozen_stages": 1,
        "extra_source": "c5",
        "upsample": "factor2",
        "anchor_offset": 0.0,
        "anchor_order": "size",
        "low_quality": "anchor",
        "normalizer": "moving",
        "box_loss": "l1",
        "clip": "after_nms",
        "preprocess": Preprocess(**PRESETS["detectron2"]).to_dict(),
    },
}
