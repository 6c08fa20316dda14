"""Arguments of RetinaNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.losses import BOX_LOSSES
from unidet.models.arguments import SETTING, TRAINING, VISIBLE, Arguments, argument
from unidet.models.boxes.anchors import octave_sizes
from unidet.models.boxes.coder import LOG_LIMIT

#: How a photo becomes an input by default.
PREPROCESS = Preprocess(**{**PRESETS["torchvision"], "resize": "mmdet"}).to_dict()


@dataclass(frozen=True)
class RetinaNetConfig(Arguments):
    """Arguments of :class:`unidet.models.retinanet.RetinaNet`; the defaults train from scratch."""

    num_classes: int = argument(80, "number of labels", kind=VISIBLE, least=1)
    depth: int = argument(50, "layers of the ResNet", kind=VISIBLE, choices=(18, 34, 50, 101, 152))
    background_slot: int | None = argument(
        None,
        "label that stands for the background and does not occur in ground truth "
        "(torchvision: 0), or None",
        kind=VISIBLE,
    )
    class_names: tuple[str, ...] | None = argument(
        None,
        "name of each label, where known",
        kind=VISIBLE,
    )

    norm: str = argument(
        "batch",
        "norm of the network: 'batch' or 'frozen' (four constant vectors)",
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
    extra_source: str = argument("p5", "what P6 is computed from", choices=("c5", "p5"))
    extra_relu: bool = argument(True, "a ReLU between P6 and P7")
    upsample: str = argument(
        "size",
        "top-down upsampling: 'factor2', or to the 'size' of the lateral map",
        choices=("factor2", "size"),
    )

    head_channels: int | None = argument(
        None,
        "channels of the head; None: those of the pyramid",
        kind=VISIBLE,
        least=1,
    )
    head_depth: int = argument(4, "convolutions in each tower", kind=VISIBLE)
    head_norm: str | None = argument(
        "group",
        "'group' puts group norm behind each of them, which then has no bias",
        kind=VISIBLE,
        choices=(None, "group"),
    )
    head_groups: int = argument(32, "groups of the group norm", least=1)

    anchor_sizes: tuple[tuple[float, ...], ...] = argument(
        octave_sizes(),
        "for each level the square roots of the anchor areas, in pixels; a flat list holds "
        "the smallest of three sizes, a third of an octave apart",
        above=0,
    )
    anchor_ratios: tuple[float, ...] = argument((0.5, 1.0, 2.0), "height over width", above=0)
    anchor_strides: tuple[int, ...] = argument(
        (8, 16, 32, 64, 128),
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

    box_std: tuple[float, ...] = argument(
        (1.0, 1.0, 1.0, 1.0),
        "the outputs of the network are box deltas divided by these",
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
    box_min_side: float = argument(
        0.0,
        "sides of ground truth are at least this long when encoded, in pixels (yhenon: 1)",
        kind=TRAINING,
    )

    positive_iou: float = argument(0.5, "least IoU of a positive anchor", kind=TRAINING)
    negative_iou: float = argument(0.4, "IoU below which an anchor is background", kind=TRAINING)
    low_quality: str | None = argument(
        "target",
        "what the best anchors of an object get below `positive_iou`: None, 'target' or 'anchor'",
        kind=TRAINING,
        choices=(None, "target", "anchor"),
    )
    ignore_overlap: float | None = argument(
        0.5,
        "a background anchor that a crowd region covers by more than this is ignored; None: never",
        kind=TRAINING,
    )

    focal_alpha: float | None = argument(
        0.25,
        "weight of positives in the focal loss; None: no weights",
        kind=TRAINING,
    )
    focal_gamma: float = argument(2.0, "exponent of the focal loss", kind=TRAINING)
    focal_clamp: float | None = argument(
        None,
        "probabilities are kept this far from 0 and 1 (yhenon), or None",
        kind=TRAINING,
    )
    normalizer: str = argument(
        "batch",
        "the loss is divided by the positives of each 'image', of the 'batch', or by their "
        "'moving' average",
        kind=TRAINING,
        choices=("image", "batch", "moving"),
    )
    box_loss: str = argument(
        "giou",
        "loss of the boxes: on deltas ('l1', 'smooth_l1') or on boxes ('giou', 'diou', 'ciou')",
        kind=TRAINING,
        choices=("l1", "smooth_l1", *BOX_LOSSES),
    )
    box_beta: float = argument(1 / 9, "beta of smooth L1", kind=TRAINING)
    box_reduction: str = argument(
        "sum",
        "the four deltas of an anchor are added ('sum') or averaged",
        kind=TRAINING,
        choices=("sum", "mean"),
    )
    box_weight: float = argument(1.0, "factor of the box loss", kind=TRAINING)
    prior: float = argument(
        0.01,
        "probability that an untrained network gives to each class",
        kind=TRAINING,
        above=0,
        below=1,
    )
    init: str = argument(
        "torchvision",
        "whose scheme initialises the weights",
        kind=TRAINING,
        choices=("torchvision", "yhenon", "mmdet"),
    )

    score_threshold: float = argument(
        0.05,
        "a detection scores more than this",
        kind=SETTING,
        least=0,
        most=1,
    )
    pre_nms: int | None = argument(1000, "candidates of each level, or None for all", kind=SETTING)
    nms_iou: float = argument(
        0.5,
        "IoU above which the lower score of one class is dropped",
        kind=SETTING,
    )
    max_detections: int | None = argument(
        100,
        "most detections of an image, or None for all",
        kind=SETTING,
    )
    clip: str = argument(
        "before_nms",
        "boxes are clipped to the image 'before_nms', 'after_nms' (empty boxes are dropped) "
        "or 'one_sided' (yhenon)",
        choices=("before_nms", "after_nms", "one_sided"),
    )

    preprocess: Mapping[str, Any] = argument(
        lambda: dict(PREPROCESS), "arguments of `unidet.data.preprocess.Preprocess`"
    )

    def normalised(self, name: str, value: Any) -> Any:
        """Completes sizes of anchors that are given for each level alone, and the head's width."""
        if name == "anchor_sizes" and not any(isinstance(v, Sequence) for v in value):
            return octave_sizes(value)
        if name == "head_channels" and value is None:
            return self.fpn_channels
        return value
