"""Everything that tells one Faster R-CNN from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unidet.checkpoints.conventions import plain
from unidet.losses import BOX_LOSSES
from unidet.models.boxes.coder import LOG_LIMIT
from unidet.models.config_checks import require, require_choices

_CHOICES: dict[str, tuple[Any, ...]] = {
    "depth": (18, 34, 50, 101, 152),
    "style": ("fpn", "c4"),
    "norm": ("batch", "frozen"),
    "fpn_norm": (None, "batch"),
    "upsample": ("factor2", "size"),
    "background_slot": (None, 0),
    "background": ("first", "last"),
    "rpn_low_quality": (None, "target", "anchor"),
    "rpn_loss": ("l1", "smooth_l1"),
    "rpn_normalizer": ("sampled", "sampled_each", "constant"),
    "roi_level_rule": ("torchvision", "mmdet", "detectron2"),
    "roi_low_quality": (None, "target", "anchor"),
    "head": ("2fc", "4conv1fc", "res5"),
    "head_norm": (None, "batch"),
    "box_loss": ("l1", "smooth_l1", *BOX_LOSSES),
    "rescale": ("before_nms", "after_nms"),
    "soft_nms": (None, "linear", "gaussian"),
    "init": ("torchvision", "mmdet", "detectron2"),
}


@dataclass(frozen=True)
class FasterRCNNConfig:
    """Arguments of :class:`unidet.models.faster_rcnn.faster_rcnn.FasterRCNN` and ``FastRCNN``.

    ``FastRCNN`` has no region proposal network and takes none of ``rpn_*`` and ``anchor_*``.

    Attributes:
        num_classes: labels lie below this.
        depth: of the ResNet.
        style: ``"fpn"`` (a pyramid) or ``"c4"`` (one map; the last stage is part of the head).
        background_slot: 0 where label 0 stands for the background and must not occur in ground
            truth (torchvision: 91 labels), or None: the background is one output more.
        class_names: one name for each label, where known.
        norm: of the backbone and of ``res5``: ``"batch"`` (affine trains) or ``"frozen"`` (all four
            vectors are constants).
        norm_eps: of all norm layers.
        norm_eval: all batch norms use their running statistics in training too.
        stride_in_1x1: bottlenecks stride in their first convolution (MSRA) instead of the 3x3.
        frozen_stages: stages that do not train: -1 none, 0 the stem, 1 the stem and layer1, ...
        fpn_channels: width of the pyramid.
        fpn_norm: ``"batch"`` behind each convolution of the pyramid, or None.
        upsample: top-down step to twice the size, or to the exact size of the lateral map.
        rpn_convs: 3x3 convolutions before the outputs of the region proposal network.
        anchor_sizes: for each level the square roots of the anchor areas, in pixels.
        anchor_ratios: height over width.
        anchor_strides: nominal stride of each level.
        anchor_rounding, anchor_offset, anchor_stride_rule, anchor_order: see ``AnchorGenerator``.
        rpn_positive_iou, rpn_negative_iou, rpn_low_quality, rpn_low_quality_iou: see ``Matcher``.
        rpn_batch: anchors of an image that enter the loss.
        rpn_positive_fraction: largest share of positive ones among them.
        rpn_border: anchors that leave the image by more than so many pixels learn nothing; None:
            all learn.
        rpn_pre_nms_train, rpn_pre_nms_test: candidates of each level.
        rpn_post_nms_train, rpn_post_nms_test: proposals of an image, all levels together.
        rpn_nms_iou: suppression of proposals of one level by each other.
        rpn_min_side: proposals have sides of at least this many pixels, and above 0.
        rpn_score_threshold: least probability of a proposal.
        rpn_loss, rpn_beta: of the anchors' deltas.
        rpn_normalizer: losses are divided by the number of sampled anchors, by that number with at
            least one positive and one negative for each image (mmdetection), or by ``rpn_batch``
            times the images (detectron2).
        roi_size: side of the map that is cut out for each proposal.
        roi_sampling_ratio: points along a side of a bin; 0 adapts to the size of the proposal.
        roi_aligned: pixel centres lie at half pixels.
        roi_level_rule: whose rounding decides the level of a proposal.
        head: ``"2fc"``, ``"4conv1fc"`` or ``"res5"``.
        head_channels: width of the fully connected layers.
        head_norm: ``"batch"`` behind each convolution of ``"4conv1fc"``, which then has no bias.
        class_agnostic: one box for all classes.
        background: row of the background among the class outputs.
        box_background: the background has box outputs too (never used).
        roi_positive_iou, roi_negative_iou, roi_low_quality: see ``Matcher``.
        roi_batch: proposals of an image that enter the loss.
        roi_positive_fraction: largest share of positive ones among them.
        add_ground_truth: objects are proposals too, in training.
        ignore_overlap: of both matchers: see ``Matcher``.
        box_std, box_log_limit, box_log_limit_both: of both coders but for ``box_std``, which
            belongs to the second; see ``BoxCoder``.
        box_loss, box_beta: of the second stage; ``"giou"``, ``"diou"`` and ``"ciou"`` compare
            boxes.
        box_weight: factor of the second stage's box loss.
        init: whose scheme fills the weights before training.
        score_threshold: a detection scores more than this.
        nms_iou: IoU above which the lower score of one class is dropped.
        soft_nms: lower scores instead: ``"linear"`` (from ``nms_iou``) or ``"gaussian"``, or None.
        soft_sigma: width of the Gaussian.
        soft_min_score: detections whose lowered score is below are dropped.
        max_detections: of one image, or None for all.
        min_side: least side of a detection in pixels of the input, before NMS.
        drop_empty: detections without area are dropped at the very end (detectron2).
        rescale: boxes go to the original's pixels before or after NMS.
        preprocess: arguments of ``unidet.data.preprocess.Preprocess``.
    """

    num_classes: int
    depth: int
    style: str = "fpn"
    background_slot: int | None = None
    class_names: tuple[str, ...] | None = None

    norm: str = "batch"
    norm_eps: float = 1e-5
    norm_eval: bool = False
    stride_in_1x1: bool = False
    frozen_stages: int = -1

    fpn_channels: int = 256
    fpn_norm: str | None = None
    upsample: str = "size"

    rpn_convs: int = 1
    anchor_sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    anchor_rounding: bool = False
    anchor_offset: float = 0.0
    anchor_stride_rule: str = "nominal"
    anchor_order: str = "ratio"
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_low_quality: str | None = "target"
    rpn_low_quality_iou: float = 0.3
    rpn_batch: int = 256
    rpn_positive_fraction: float = 0.5
    rpn_border: float | None = None
    rpn_pre_nms_train: int = 2000
    rpn_pre_nms_test: int = 1000
    rpn_post_nms_train: int = 1000
    rpn_post_nms_test: int = 1000
    rpn_nms_iou: float = 0.7
    rpn_min_side: float = 0.0
    rpn_score_threshold: float = 0.0
    rpn_loss: str = "l1"
    rpn_beta: float = 1 / 9
    rpn_normalizer: str = "sampled"

    roi_size: int = 7
    roi_sampling_ratio: int = 0
    roi_aligned: bool = True
    roi_level_rule: str = "mmdet"
    head: str = "2fc"
    head_channels: int = 1024
    head_norm: str | None = None
    class_agnostic: bool = False
    background: str = "last"
    box_background: bool = False
    roi_positive_iou: float = 0.5
    roi_negative_iou: float = 0.5
    roi_low_quality: str | None = None
    roi_batch: int = 512
    roi_positive_fraction: float = 0.25
    add_ground_truth: bool = True
    ignore_overlap: float | None = None

    box_std: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    box_log_limit: float | None = LOG_LIMIT
    box_log_limit_both: bool = False
    box_loss: str = "l1"
    box_beta: float = 1 / 9
    box_weight: float = 1.0
    init: str = "mmdet"

    score_threshold: float = 0.05
    nms_iou: float = 0.5
    soft_nms: str | None = None
    soft_sigma: float = 0.5
    soft_min_score: float = 1e-3
    max_detections: int | None = 100
    min_side: float = 0.0
    drop_empty: bool = False
    rescale: str = "after_nms"

    preprocess: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "anchor_sizes":  # a bare number is a level with one size
                value = tuple(tuple(v) if isinstance(v, (list, tuple)) else (v,) for v in value)
            elif isinstance(value, list):  # as read from YAML or JSON
                value = tuple(tuple(v) if isinstance(v, list) else v for v in value)
            object.__setattr__(self, item.name, value)
        require_choices(self, _CHOICES)
        self._check_classes()
        require((self.head == "res5") == (self.style == "c4"), "head", *self._head_words())
        require(self.rpn_convs > 0, "rpn_convs", "1 or more", self.rpn_convs)
        for name in (
            "rpn_batch",
            "roi_batch",
            "roi_size",
            "rpn_post_nms_train",
            "rpn_pre_nms_test",
        ):
            require(getattr(self, name) > 0, name, "1 or more", getattr(self, name))
        for name in ("rpn_positive_fraction", "roi_positive_fraction", "score_threshold"):
            require(0 <= getattr(self, name) <= 1, name, "0 to 1", getattr(self, name))

    def _head_words(self) -> tuple[str, str]:
        expected = "'res5'" if self.style == "c4" else "'2fc' or '4conv1fc'"
        return f"{expected} with style={self.style!r}", repr(self.head)

    def _check_classes(self) -> None:
        low = 1 if self.background_slot is None else 2
        require(self.num_classes >= low, "num_classes", f"{low} or more", self.num_classes)
        names = self.class_names
        require(
            names is None or len(names) == self.num_classes,
            "class_names",
            f"{self.num_classes} names",
            len(names or ()),
        )
        require(
            self.background_slot is None or self.background == "first",
            "background",
            "'first' with background_slot=0",
            repr(self.background),
        )

    @property
    def detected_classes(self) -> int:
        """Labels that detections may have."""
        return self.num_classes

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

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all arguments."""
        return tuple(item.name for item in fields(cls))

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain lists, numbers and strings, for YAML and JSON."""
        return {key: plain(value) for key, value in asdict(self).items()}


def argument_names(family: str) -> tuple[str, ...]:
    """Arguments of a model of the family; the depth is part of its name."""
    absent = ("rpn_", "anchor_") if family == "fast_rcnn" else ()
    names = FasterRCNNConfig.names()
    own = ("depth", "style")
    return tuple(n for n in names if n not in own and not n.startswith(tuple(absent)))
