"""Everything that tells one RetinaNet from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unidet.checkpoints.conventions import plain
from unidet.losses import BOX_LOSSES
from unidet.models.boxes.anchors import octave_sizes
from unidet.models.boxes.coder import LOG_LIMIT
from unidet.models.config_checks import require_choices

_CHOICES: dict[str, tuple[Any, ...]] = {
    "depth": (18, 34, 50, 101, 152),
    "norm": ("batch", "frozen"),
    "extra_source": ("c5", "p5"),
    "upsample": ("factor2", "size"),
    "head_norm": (None, "group"),
    "low_quality": (None, "target", "anchor"),
    "normalizer": ("image", "batch", "moving"),
    "box_loss": ("l1", "smooth_l1", *BOX_LOSSES),
    "box_reduction": ("sum", "mean"),
    "clip": ("before_nms", "after_nms", "one_sided"),
    "init": ("torchvision", "yhenon", "mmdet"),
}


@dataclass(frozen=True)
class RetinaNetConfig:
    """Arguments of :class:`unidet.models.retinanet.model.RetinaNet`.

    Attributes:
        num_classes: outputs of each anchor.
        background_slot: a class that stands for nothing and must not occur in ground truth
            (torchvision: 0), or None.
        class_names: one name for each class, where known.
        depth: of the ResNet.
        norm: ``"batch"`` (affine trains) or ``"frozen"`` (all four vectors are constants).
        norm_eps: of the backbone's norm layers.
        norm_eval: batch norm uses its running statistics in training too; the affine part trains.
        stride_in_1x1: bottlenecks stride in their first convolution (MSRA) instead of the 3x3.
        frozen_stages: stages that do not train: -1 none, 0 the stem, 1 the stem and layer1, ...
        fpn_channels: width of the pyramid.
        extra_source: what P6 is computed from.
        extra_relu: a ReLU lies between P6 and P7.
        upsample: top-down step to twice the size, or to the exact size of the lateral map.
        head_channels: width of the two towers.
        head_depth: convolutions in each tower.
        head_norm: ``"group"`` puts group norm behind each of them, which then has no bias.
        head_groups: groups of that norm.
        anchor_sizes: for each level the square roots of the anchor areas, in pixels; a flat list
            holds the smallest of three sizes, a third of an octave apart.
        anchor_ratios: height over width.
        anchor_strides: nominal stride of each level.
        anchor_rounding, anchor_offset, anchor_stride_rule, anchor_order: see ``AnchorGenerator``.
        box_std, box_log_limit, box_log_limit_both, box_min_side: see ``BoxCoder``.
        positive_iou, negative_iou, low_quality, ignore_overlap: see ``Matcher``.
        focal_alpha, focal_gamma, focal_clamp: see ``sigmoid_focal_loss``.
        normalizer: losses are divided by the positives of each image and averaged over images, or
            divided by the positives of the batch (each image counts as one positive at least), or
            by their moving average over training steps (``"moving"``, detectron2).
        box_loss: on deltas (``"l1"``, ``"smooth_l1"``) or on boxes (``"giou"``, ``"diou"``,
            ``"ciou"``).
        box_beta: of smooth L1.
        box_reduction: the four deltas of an anchor are added or averaged.
        box_weight: factor of the box loss.
        prior: probability that an untrained network gives to each class.
        init: whose scheme fills the weights before training.
        score_threshold: a detection scores more than this.
        pre_nms: candidates kept for each level, or None for all.
        nms_iou: IoU above which the lower score of one class is dropped.
        max_detections: of one image, or None for all.
        clip: boxes are moved into the image before or after NMS (after: those left without area
            are dropped); ``"one_sided"`` is yhenon's rule, on the padded input.
        preprocess: arguments of ``unidet.data.preprocess.Preprocess``.
    """

    num_classes: int
    depth: int
    background_slot: int | None = None
    class_names: tuple[str, ...] | None = None

    norm: str = "batch"
    norm_eps: float = 1e-5
    norm_eval: bool = False
    stride_in_1x1: bool = False
    frozen_stages: int = -1

    fpn_channels: int = 256
    extra_source: str = "c5"
    extra_relu: bool = True
    upsample: str = "size"

    head_channels: int | None = None
    head_depth: int = 4
    head_norm: str | None = None
    head_groups: int = 32

    anchor_sizes: tuple[tuple[float, ...], ...] = octave_sizes()
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    anchor_rounding: bool = False
    anchor_offset: float = 0.0
    anchor_stride_rule: str = "nominal"
    anchor_order: str = "ratio"

    box_std: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    box_log_limit: float | None = LOG_LIMIT
    box_log_limit_both: bool = False
    box_min_side: float = 0.0

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    low_quality: str | None = "target"
    ignore_overlap: float | None = None

    focal_alpha: float | None = 0.25
    focal_gamma: float = 2.0
    focal_clamp: float | None = None
    normalizer: str = "batch"
    box_loss: str = "l1"
    box_beta: float = 1 / 9
    box_reduction: str = "sum"
    box_weight: float = 1.0
    prior: float = 0.01
    init: str = "torchvision"

    score_threshold: float = 0.05
    pre_nms: int | None = 1000
    nms_iou: float = 0.5
    max_detections: int | None = 100
    clip: str = "before_nms"

    preprocess: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "anchor_sizes" and not any(isinstance(v, Sequence) for v in value):
                object.__setattr__(self, item.name, octave_sizes(value))
            elif isinstance(value, list):  # as read from YAML or JSON
                value = tuple(tuple(v) if isinstance(v, list) else v for v in value)
                object.__setattr__(self, item.name, value)
        require_choices(self, _CHOICES)
        if self.num_classes < 1:
            raise ValueError(
                f"Invalid value for `num_classes`. Expected 1 or more. Received {self.num_classes}."
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"Invalid value for `class_names`. Expected {self.num_classes} names. "
                f"Received {len(self.class_names)}."
            )
        if not 0 < self.prior < 1:
            raise ValueError(
                f"Invalid value for `prior`. Expected a number between 0 and 1. Received "
                f"{self.prior}."
            )
        if self.head_channels is None:
            object.__setattr__(self, "head_channels", self.fpn_channels)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all arguments."""
        return tuple(item.name for item in fields(cls))

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain lists, numbers and strings, for YAML and JSON."""
        return {key: plain(value) for key, value in asdict(self).items()}
