"""Arguments of the detectors that classify by text embeddings (Wang et al. 2023, UniDetector)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.models.clip.resnet import LAYERS
from unidet.models.config_checks import require
from unidet.models.faster_rcnn.config import FasterRCNNConfig, argument_names


@dataclass(frozen=True)
class UniDetectorConfig(FasterRCNNConfig):
    """Arguments of ``UniDetector`` and ``UniDetectorStage2``, beside those of Faster R-CNN.

    Attributes:
        vocabulary_sizes: classes of each data set that the model learns from, each with text
            embeddings and logits of its own; none: one vocabulary of ``num_classes``.
            ``num_classes`` is the largest. Without another vocabulary the model detects the
            classes of the first.
        clip_layers: blocks in the four stages of CLIP's ResNet; none: those of ``depth``.
        clip_width: of its stem.
        embedding_dim: length of a text embedding.
        federated_classes: classes of a batch that enter the class loss: those of its objects,
            filled up by chance to this number.
        class_weight: factor of the class loss of a single vocabulary.
        max_proposals_train, max_proposals_test: given proposals that are used, the best first;
            None: all.
        beta: exponent of the class probability; the proposal's score has the exponent
            ``1 - beta``. None: the class probability alone.
        gamma: exponent of the class prior (probability calibration), or None.
        class_prior: detections of each class in a first pass, for ``gamma``; a class without
            any counts as one.
    """

    vocabulary_sizes: tuple[int, ...] = ()
    clip_layers: tuple[int, ...] | None = None
    clip_width: int = 64
    embedding_dim: int = 1024
    federated_classes: int = 50
    class_weight: float = 1.0
    max_proposals_train: int | None = 2000
    max_proposals_test: int | None = None
    beta: float | None = None
    gamma: float | None = None
    class_prior: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth in LAYERS, "depth", "50 or 101", self.depth)
        layers = self.clip_layers
        require(
            layers is None or (len(layers) == 4 and min(layers) > 0),
            "clip_layers",
            "blocks in each of four stages",
            layers,
        )
        require(
            self.clip_width > 0 and self.clip_width % 2 == 0,
            "clip_width",
            "an even number above 0",
            self.clip_width,
        )
        require(self.embedding_dim > 0, "embedding_dim", "1 or more", self.embedding_dim)
        require(self.roi_size % 2 == 0, "roi_size", "an even number", self.roi_size)
        require(
            self.federated_classes >= 0, "federated_classes", "0 or more", self.federated_classes
        )
        for name in ("max_proposals_train", "max_proposals_test"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "1 or more, or null", value)
        require(self.beta is None or 0 <= self.beta <= 1, "beta", "0 to 1, or null", self.beta)
        require(self.gamma is None or self.gamma >= 0, "gamma", "0 or more, or null", self.gamma)
        self._check_prior()

    def _check_classes(self) -> None:
        require(self.num_classes > 0, "num_classes", "1 or more", self.num_classes)
        sizes = self.vocabulary_sizes
        require(
            not sizes or (min(sizes) > 0 and max(sizes) == self.num_classes),
            "vocabulary_sizes",
            f"sizes of which the largest is num_classes ({self.num_classes})",
            sizes,
        )
        names = self.class_names
        require(
            names is None or len(names) == self.detected_classes,
            "class_names",
            f"{self.detected_classes} names",
            len(names or ()),
        )

    def _check_prior(self) -> None:
        prior = self.class_prior
        require(
            self.gamma is None or prior is not None,
            "class_prior",
            "the detections of each class with gamma",
            prior,
        )
        require(
            prior is None or (len(prior) == self.detected_classes and min(prior) >= 0),
            "class_prior",
            f"{self.detected_classes} counts",
            f"{len(prior or ())} numbers, the least {min(prior or (0,))}",
        )

    @property
    def detected_classes(self) -> int:
        """Classes of the vocabulary that inference uses."""
        return self.vocabulary_sizes[0] if self.vocabulary_sizes else self.num_classes

    @property
    def stages(self) -> tuple[int, ...]:
        """Blocks in the four stages of the network."""
        return self.clip_layers or LAYERS[self.depth]


#: Arguments of Faster R-CNN that have no meaning here, or one value only.
_FIXED = (
    "style", "background_slot", "stride_in_1x1", "fpn_channels", "fpn_norm", "upsample",
    "roi_level_rule", "head", "head_channels", "head_norm", "class_agnostic", "background",
    "box_background", "init",
)  # fmt: skip

#: What the official configs of section "end-to-end" and "second stage" share.
_COMMON: dict[str, Any] = {
    "num_classes": 80,
    "style": "c4",
    "head": "res5",
    "class_agnostic": True,
    "background": "last",
    "norm": "batch",
    "norm_eps": 1e-5,
    "norm_eval": True,
    "frozen_stages": 1,
    "roi_size": 14,
    "roi_sampling_ratio": 0,
    "roi_aligned": True,
    "roi_positive_iou": 0.5,
    "roi_negative_iou": 0.5,
    "roi_low_quality": None,
    "roi_batch": 512,
    "roi_positive_fraction": 0.25,
    "add_ground_truth": True,
    "ignore_overlap": None,
    "box_std": (0.1, 0.1, 0.2, 0.2),
    "box_log_limit_both": True,
    "box_loss": "l1",
    "score_threshold": 1e-4,
    "nms_iou": 0.5,
    "soft_nms": "gaussian",
    "soft_sigma": 0.5,
    "soft_min_score": 1e-3,
    "max_detections": 100,
    "rescale": "before_nms",
    "preprocess": Preprocess(**PRESETS["unidetector"]).to_dict(),
}

#: The proposal network of the end-to-end model: one map, 15 anchors in a cell.
_RPN: dict[str, Any] = {
    "rpn_convs": 1,
    "anchor_sizes": ((32.0, 64.0, 128.0, 256.0, 512.0),),
    "anchor_ratios": (0.5, 1.0, 2.0),
    "anchor_strides": (16,),
    "anchor_offset": 0.0,
    "anchor_order": "ratio",
    "rpn_positive_iou": 0.7,
    "rpn_negative_iou": 0.3,
    "rpn_low_quality": "target",
    "rpn_low_quality_iou": 0.3,
    "rpn_batch": 256,
    "rpn_positive_fraction": 0.5,
    "rpn_border": 0.0,
    "rpn_pre_nms_train": 12000,
    "rpn_pre_nms_test": 6000,
    "rpn_post_nms_train": 2000,
    "rpn_post_nms_test": 1000,
    "rpn_nms_iou": 0.7,
    "rpn_min_side": 0.0,
    "rpn_loss": "l1",
    "rpn_normalizer": "sampled_each",
}

#: Arguments of the two models as published, all but ``depth``.
DEFAULTS: dict[str, dict[str, Any]] = {
    "unidetector_e2e": {**_COMMON, **_RPN},
    "unidetector_stage2": _COMMON,
}


def accepted(family: str) -> tuple[str, ...]:
    """Arguments that a user may give to a model of the family."""
    base = "faster_rcnn" if family == "unidetector_e2e" else "fast_rcnn"
    inherited = argument_names(base)
    own = [name for name in UniDetectorConfig.names() if name not in FasterRCNNConfig.names()]
    given_only = ("max_proposals_train", "max_proposals_test")
    left_out = given_only if base == "faster_rcnn" else ()
    return tuple(n for n in (*inherited, *own) if n not in _FIXED and n not in left_out)
