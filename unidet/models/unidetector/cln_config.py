"""Arguments of UniDetector's first stage (Wang et al. 2023, after OLN: Kim et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.models.config_checks import require
from unidet.models.faster_rcnn.config import FasterRCNNConfig, argument_names

#: The one class of a detector that does not name what it finds.
OBJECT = "object"


@dataclass(frozen=True)
class CLNConfig(FasterRCNNConfig):
    """Arguments of ``CLN``, beside those of Faster R-CNN with a pyramid.

    Attributes:
        rpn_suppress: NMS with ``rpn_nms_iou`` among the proposals of a level, and the limits
            ``rpn_post_nms_*``. The official code has neither.
        rpn_box_weight: factor of the anchors' IoU loss.
        quality_positive_iou, quality_negative_iou: anchors that learn their centerness, and those
            that learn 0.
        skip_border_targets: objects that touch the left or top border teach no anchor its box, as
            in the official code.
        alpha: exponent of the class probability; localisation quality has ``1 - alpha``.
    """

    rpn_suppress: bool = False
    rpn_box_weight: float = 10.0
    quality_positive_iou: float = 0.3
    quality_negative_iou: float = 0.1
    skip_border_targets: bool = True
    alpha: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.num_classes == 1, "num_classes", "1: the model names nothing", self.num_classes
        )
        require(0 <= self.alpha <= 1, "alpha", "0 to 1", self.alpha)
        require(self.rpn_box_weight >= 0, "rpn_box_weight", "0 or more", self.rpn_box_weight)
        require(
            0 <= self.quality_negative_iou <= self.quality_positive_iou <= 1,
            "quality_positive_iou",
            "0 <= quality_negative_iou <= quality_positive_iou <= 1",
            self.quality_positive_iou,
        )


#: Arguments of Faster R-CNN that have no meaning here, or one value only.
_FIXED = (
    "style", "num_classes", "class_names", "background_slot", "stride_in_1x1", "rpn_convs",
    "anchor_order", "rpn_loss", "rpn_beta", "head", "head_norm", "class_agnostic", "background",
    "box_background", "init", "rpn_min_side", "rpn_score_threshold",
)  # fmt: skip

#: Arguments of the model as published, all but ``depth``.
DEFAULTS: dict[str, Any] = {
    "num_classes": 1,
    "class_names": (OBJECT,),
    "style": "fpn",
    "head": "2fc",
    "background": "last",
    "norm": "batch",
    "norm_eps": 1e-5,
    "norm_eval": True,
    "frozen_stages": 1,
    "upsample": "size",
    "anchor_sizes": ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
    "anchor_ratios": (1.0,),
    "anchor_strides": (4, 8, 16, 32, 64),
    "anchor_offset": 0.0,
    "rpn_low_quality": "target",
    "rpn_low_quality_iou": 0.3,
    "rpn_border": 0.0,
    "rpn_pre_nms_train": 2000,
    "rpn_pre_nms_test": 2000,
    "rpn_normalizer": "sampled_each",
    "roi_level_rule": "mmdet",
    "ignore_overlap": None,
    "box_log_limit_both": True,
    "box_loss": "l1",
    "init": "mmdet",
    "score_threshold": 0.0,
    "nms_iou": 0.9,
    "max_detections": 1500,
    "rescale": "before_nms",
    "preprocess": Preprocess(**PRESETS["mmdet"]).to_dict(),
}


def accepted() -> tuple[str, ...]:
    """Arguments that a user may give."""
    own = [name for name in CLNConfig.names() if name not in FasterRCNNConfig.names()]
    return tuple(n for n in (*argument_names("faster_rcnn"), *own) if n not in _FIXED)
