"""Arguments of UniDetector's first stage (Wang et al. 2023, after OLN: Kim et al. 2022)."""

from __future__ import annotations

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.models.arguments import TRAINING, argument, changed, require
from unidet.models.faster_rcnn.config import FasterRCNNConfig

#: The one class of a detector that does not name what it finds.
OBJECT = "object"


@changed(
    FasterRCNNConfig,
    num_classes=1,
    class_names=(OBJECT,),
    norm_eval=True,
    frozen_stages=1,
    anchor_ratios=(1.0,),
    anchor_offset=0.0,
    rpn_border=0.0,
    rpn_pre_nms_test=2000,
    rpn_normalizer="sampled_each",
    ignore_overlap=None,
    box_log_limit_both=True,
    score_threshold=0.0,
    nms_iou=0.9,
    max_detections=1500,
    rescale="before_nms",
    preprocess=lambda: Preprocess(**PRESETS["mmdet"]).to_dict(),
)
class CLNConfig(FasterRCNNConfig):
    """Arguments of ``CLN``, beside those of Faster R-CNN with a pyramid."""

    fixed = (
        "style", "num_classes", "class_names", "background_slot", "stride_in_1x1", "rpn_convs",
        "anchor_order", "rpn_loss", "rpn_beta", "head", "head_norm", "class_agnostic", "background",
        "box_background", "init", "rpn_min_side", "rpn_score_threshold",
    )  # fmt: skip

    rpn_suppress: bool = argument(
        False,
        "NMS among the proposals of a level, and the limits `rpn_post_nms_*`; the official "
        "code has neither",
    )
    rpn_box_weight: float = argument(
        10.0,
        "factor of the IoU loss of the anchors",
        kind=TRAINING,
        least=0,
    )
    quality_positive_iou: float = argument(
        0.3,
        "least IoU of an anchor that learns its centerness",
        kind=TRAINING,
    )
    quality_negative_iou: float = argument(
        0.1,
        "IoU below which an anchor learns centerness 0",
        kind=TRAINING,
    )
    skip_border_targets: bool = argument(
        True,
        "objects at the left or top border do not train the boxes of anchors, as in the "
        "official code",
        kind=TRAINING,
    )
    alpha: float = argument(
        0.3,
        "exponent of the class probability; localisation quality has `1 - alpha`",
        least=0,
        most=1,
    )

    def check(self) -> None:
        """One class, and IoUs in order."""
        super().check()
        require(
            self.num_classes == 1, "num_classes", "1: the model names nothing", self.num_classes
        )
        require(
            0 <= self.quality_negative_iou <= self.quality_positive_iou <= 1,
            "quality_positive_iou",
            "0 <= quality_negative_iou <= quality_positive_iou <= 1",
            self.quality_positive_iou,
        )
