"""Arguments of Faster R-CNN and Fast R-CNN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.losses import BOX_LOSSES
from unidet.models.arguments import SETTING, TRAINING, VISIBLE, Arguments, argument, require
from unidet.models.boxes.coder import LOG_LIMIT

#: How a photo becomes an input by default.
PREPROCESS = Preprocess(**{**PRESETS["torchvision"], "resize": "mmdet"}).to_dict()


@dataclass(frozen=True)
class FasterRCNNConfig(Arguments):
    """Arguments of ``FasterRCNN`` and ``FastRCNN``; the defaults train from scratch.

    ``FastRCNN`` has no region proposal network and takes none of ``rpn_*`` and ``anchor_*``.
    """

    num_classes: int = argument(80, "number of labels", kind=VISIBLE, least=1)
    depth: int = argument(50, "layers of the ResNet", kind=VISIBLE, choices=(18, 34, 50, 101, 152))
    style: str = argument(
        "fpn",
        "'fpn' (a pyramid) or 'c4' (one map; the last stage is part of the head)",
        kind=VISIBLE,
        choices=("fpn", "c4"),
    )
    background_slot: int | None = argument(
        None,
        "0 where label 0 is the background and does not occur in ground truth (torchvision: "
        "91 labels); None: the background is one more output",
        kind=VISIBLE,
        choices=(None, 0),
    )
    class_names: tuple[str, ...] | None = argument(
        None,
        "name of each label, where known",
        kind=VISIBLE,
    )

    norm: str = argument(
        "batch",
        "norm of backbone and `res5`: 'batch' or 'frozen' (four constant vectors)",
        kind=TRAINING,
        choices=("batch", "frozen"),
    )
    norm_eps: float = argument(1e-05, "eps of the norm layers")
    norm_eval: bool = argument(
        False,
        "batch norm uses its running statistics in training, too; the affine part trains",
        kind=TRAINING,
    )
    stride_in_1x1: bool = argument(
        False,
        "bottlenecks have their stride in the first convolution (MSRA) and not in the 3x3",
    )
    frozen_stages: int = argument(
        -1,
        "stages that do not train: -1 none, 0 the stem, 1 the stem and layer1, and so on",
        kind=TRAINING,
    )

    fpn_channels: int = argument(256, "width of the pyramid", kind=VISIBLE, least=1)
    fpn_norm: str | None = argument(
        None,
        "'batch' behind each convolution of the pyramid, or None",
        kind=VISIBLE,
        choices=(None, "batch"),
    )
    upsample: str = argument(
        "size",
        "top-down upsampling: 'factor2', or to the 'size' of the lateral map",
        choices=("factor2", "size"),
    )

    rpn_convs: int = argument(
        1,
        "3x3 convolutions before the outputs of the region proposal network",
        kind=VISIBLE,
        least=1,
    )
    anchor_sizes: tuple[tuple[float, ...], ...] = argument(
        ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
        "for each level the square roots of the anchor areas, in pixels",
        above=0,
    )
    anchor_ratios: tuple[float, ...] = argument((0.5, 1.0, 2.0), "height over width", above=0)
    anchor_strides: tuple[int, ...] = argument(
        (4, 8, 16, 32, 64),
        "nominal stride of each level",
        above=0,
    )
    anchor_rounding: bool = argument(False, "round the corners of the anchors to whole pixels")
    anchor_offset: float = argument(
        0.5,
        "where the centre of an anchor lies in its cell, in strides: 0 or 0.5",
    )
    anchor_stride_rule: str = argument(
        "nominal",
        "stride of a level: 'nominal', or 'measured' (padded side // feature side)",
    )
    anchor_order: str = argument(
        "ratio",
        "outer loop of the anchors within a cell: 'ratio' or 'size'",
    )
    rpn_positive_iou: float = argument(0.7, "least IoU of a positive anchor", kind=TRAINING)
    rpn_negative_iou: float = argument(
        0.3,
        "IoU below which an anchor is background",
        kind=TRAINING,
    )
    rpn_low_quality: str | None = argument(
        "target",
        "what the best anchors of an object get below `rpn_positive_iou`: None, 'target' or "
        "'anchor'",
        kind=TRAINING,
        choices=(None, "target", "anchor"),
    )
    rpn_low_quality_iou: float = argument(0.3, "IoU that such an anchor must reach", kind=TRAINING)
    rpn_batch: int = argument(
        256,
        "anchors of an image that enter the loss",
        kind=TRAINING,
        least=1,
    )
    rpn_positive_fraction: float = argument(
        0.5,
        "largest share of positives among them",
        kind=TRAINING,
        least=0,
        most=1,
    )
    rpn_border: float | None = argument(
        None,
        "anchors that leave the image by more pixels than this do not train; None: all train",
        kind=TRAINING,
    )
    rpn_pre_nms_train: int = argument(2000, "candidates of each level in training", kind=TRAINING)
    rpn_pre_nms_test: int = argument(
        1000,
        "candidates of each level in inference",
        kind=SETTING,
        least=1,
    )
    rpn_post_nms_train: int = argument(
        1000,
        "proposals of an image in training, all levels together",
        kind=TRAINING,
        least=1,
    )
    rpn_post_nms_test: int = argument(
        1000,
        "proposals of an image in inference, all levels together",
        kind=SETTING,
    )
    rpn_nms_iou: float = argument(
        0.7,
        "IoU above which the lower proposal of one level is dropped",
        kind=SETTING,
    )
    rpn_min_side: float = argument(
        0.0,
        "proposals have sides of at least this many pixels, and above 0",
    )
    rpn_score_threshold: float = argument(0.0, "least probability of a proposal", kind=SETTING)
    rpn_loss: str = argument(
        "l1",
        "loss of the anchors' box deltas",
        kind=TRAINING,
        choices=("l1", "smooth_l1"),
    )
    rpn_beta: float = argument(1 / 9, "beta of its smooth L1", kind=TRAINING)
    rpn_normalizer: str = argument(
        "sampled",
        "losses are divided by the 'sampled' anchors, by those with 1 positive and 1 negative"
        " at least for each image ('sampled_each', mmdetection), or by `rpn_batch` times the "
        "images ('constant', detectron2)",
        kind=TRAINING,
        choices=("sampled", "sampled_each", "constant"),
    )

    roi_size: int = argument(7, "side of the map that is cut out for each proposal", least=1)
    roi_sampling_ratio: int = argument(
        0,
        "sampling points along a side of a bin; 0 adapts to the size of the proposal",
    )
    roi_aligned: bool = argument(True, "pixel centres lie at half pixels in RoIAlign")
    roi_level_rule: str = argument(
        "mmdet",
        "whose rounding decides the pyramid level of a proposal",
        choices=("torchvision", "mmdet", "detectron2"),
    )
    head: str = argument(
        "2fc",
        "box head: '2fc', '4conv1fc' or 'res5'",
        kind=VISIBLE,
        choices=("2fc", "4conv1fc", "res5"),
    )
    head_channels: int = argument(
        1024,
        "channels of the fully connected layers",
        kind=VISIBLE,
        least=1,
    )
    head_norm: str | None = argument(
        None,
        "'batch' behind each convolution of '4conv1fc', which then has no bias",
        kind=VISIBLE,
        choices=(None, "batch"),
    )
    class_agnostic: bool = argument(False, "one box for all classes", kind=VISIBLE)
    background: str = argument(
        "last",
        "place of the background among the class outputs",
        choices=("first", "last"),
    )
    box_background: bool = argument(False, "the background has box outputs too (never used)")
    roi_positive_iou: float = argument(0.5, "least IoU of a positive proposal", kind=TRAINING)
    roi_negative_iou: float = argument(
        0.5,
        "IoU below which a proposal is background",
        kind=TRAINING,
    )
    roi_low_quality: str | None = argument(
        None,
        "what the best proposals of an object get below `roi_positive_iou`: None, 'target' or"
        " 'anchor'",
        kind=TRAINING,
        choices=(None, "target", "anchor"),
    )
    roi_batch: int = argument(
        512,
        "proposals of an image that enter the loss",
        kind=TRAINING,
        least=1,
    )
    roi_positive_fraction: float = argument(
        0.25,
        "largest share of positives among them",
        kind=TRAINING,
        least=0,
        most=1,
    )
    add_ground_truth: bool = argument(True, "objects are proposals too, in training", kind=TRAINING)
    ignore_overlap: float | None = argument(
        0.5,
        "a background anchor that a crowd region covers by more than this is ignored; None: never",
        kind=TRAINING,
    )

    box_std: tuple[float, ...] = argument(
        (0.1, 0.1, 0.2, 0.2),
        "the box outputs of the second stage are deltas divided by these",
        above=0,
    )
    box_log_limit: float | None = argument(
        LOG_LIMIT,
        "upper bound of dw and dh when boxes are decoded, or None",
    )
    box_log_limit_both: bool = argument(
        False,
        "dw and dh are bounded from below, too (mmdetection)",
    )
    box_loss: str = argument(
        "l1",
        "loss of the second stage's boxes: on deltas ('l1', 'smooth_l1') or on boxes ('giou',"
        " 'diou', 'ciou')",
        kind=TRAINING,
        choices=("l1", "smooth_l1", *BOX_LOSSES),
    )
    box_beta: float = argument(1 / 9, "beta of its smooth L1", kind=TRAINING)
    box_weight: float = argument(1.0, "factor of the box loss", kind=TRAINING)
    init: str = argument(
        "mmdet",
        "whose scheme initialises the weights",
        kind=TRAINING,
        choices=("torchvision", "mmdet", "detectron2"),
    )

    score_threshold: float = argument(
        0.05,
        "a detection scores more than this",
        kind=SETTING,
        least=0,
        most=1,
    )
    nms_iou: float = argument(
        0.5,
        "IoU above which the lower score of one class is dropped",
        kind=SETTING,
    )
    soft_nms: str | None = argument(
        None,
        "soft-NMS in place of NMS: 'linear', 'gaussian' or None",
        kind=SETTING,
        choices=(None, "linear", "gaussian"),
    )
    soft_sigma: float = argument(0.5, "width of the Gaussian", kind=SETTING)
    soft_min_score: float = argument(
        0.001,
        "detections whose lowered score is below are dropped",
        kind=SETTING,
    )
    max_detections: int | None = argument(
        100,
        "most detections of an image, or None for all",
        kind=SETTING,
    )
    min_side: float = argument(0.0, "least side of a detection in pixels of the input, before NMS")
    drop_empty: bool = argument(
        False,
        "detections without area are dropped at the very end (detectron2)",
    )
    rescale: str = argument(
        "after_nms",
        "boxes go to the original's pixels before or after NMS",
        choices=("before_nms", "after_nms"),
    )

    preprocess: Mapping[str, Any] = argument(
        lambda: dict(PREPROCESS), "arguments of `unidet.data.preprocess.Preprocess`"
    )

    def normalised(self, name: str, value: Any) -> Any:
        """A bare number among the sizes of anchors is a level with one size."""
        if name == "anchor_sizes":
            return tuple(v if isinstance(v, tuple) else (v,) for v in value)
        return value

    def check(self) -> None:
        """The head goes with the style; a background slot is the first."""
        heads = "'res5'" if self.style == "c4" else "'2fc' or '4conv1fc'"
        require(
            (self.head == "res5") == (self.style == "c4"),
            "head",
            f"{heads} with style={self.style!r}",
            repr(self.head),
        )
        if self.background_slot is None:
            return
        require(self.num_classes >= 2, "num_classes", "2 or more", self.num_classes)
        require(
            self.background == "first",
            "background",
            "'first' with background_slot=0",
            repr(self.background),
        )

    @property
    def class_rows(self) -> int:
        """Class outputs of a proposal, the background included."""
        return self.num_classes + (self.background_slot is None)

    @property
    def box_rows(self) -> int:
        """Groups of four box outputs of a proposal."""
        if self.class_agnostic:
            return 1
        return self.class_rows if self.box_background else self.class_rows - 1
