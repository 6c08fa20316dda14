"""Arguments of the detectors that classify by text embeddings (Wang et al. 2023, UniDetector)."""

from __future__ import annotations

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.models.arguments import SETTING, TRAINING, VISIBLE, argument, changed, require
from unidet.models.clip.resnet import LAYERS
from unidet.models.faster_rcnn.config import FasterRCNNConfig


@changed(
    FasterRCNNConfig,
    # What the official configs "end-to-end" and "second stage" share.
    style="c4",
    head="res5",
    class_agnostic=True,
    norm_eval=True,
    frozen_stages=1,
    roi_size=14,
    ignore_overlap=None,
    box_log_limit_both=True,
    score_threshold=1e-4,
    soft_nms="gaussian",
    rescale="before_nms",
    preprocess=lambda: Preprocess(**PRESETS["unidetector"]).to_dict(),
    # The proposal network of the end-to-end model: one map, 15 anchors in a cell.
    anchor_sizes=((32.0, 64.0, 128.0, 256.0, 512.0),),
    anchor_strides=(16,),
    anchor_offset=0.0,
    rpn_border=0.0,
    rpn_pre_nms_train=12000,
    rpn_pre_nms_test=6000,
    rpn_post_nms_train=2000,
    rpn_normalizer="sampled_each",
)
class UniDetectorConfig(FasterRCNNConfig):
    """Arguments of ``UniDetector`` and ``UniDetectorStage2``, beside those of Faster R-CNN."""

    fixed = (
        "style", "background_slot", "stride_in_1x1", "fpn_channels", "fpn_norm", "upsample",
        "roi_level_rule", "head", "head_channels", "head_norm", "class_agnostic", "background",
        "box_background", "init",
    )  # fmt: skip

    vocabulary_sizes: tuple[int, ...] = argument(
        (),
        "classes of each data set with text embeddings of its own; none: one vocabulary. "
        "`num_classes` is the largest",
        kind=VISIBLE,
    )
    clip_layers: tuple[int, ...] | None = argument(
        None,
        "blocks in the four stages of CLIP's ResNet; none: those of `depth`",
        kind=VISIBLE,
    )
    clip_width: int = argument(64, "channels of the stem of CLIP's ResNet", kind=VISIBLE, least=1)
    embedding_dim: int = argument(1024, "length of a text embedding", kind=VISIBLE, least=1)
    federated_classes: int = argument(
        50,
        "classes of a batch in the class loss: those of its objects, filled up at random to "
        "this number",
        kind=TRAINING,
        least=0,
    )
    class_weight: float = argument(
        1.0,
        "factor of the class loss of a single vocabulary",
        kind=TRAINING,
    )
    max_proposals_train: int | None = argument(
        2000,
        "given proposals that are used in training, the best first; None: all",
        kind=TRAINING,
        least=1,
    )
    max_proposals_test: int | None = argument(
        None,
        "given proposals that are used in inference, the best first; None: all",
        kind=SETTING,
        least=1,
    )
    beta: float | None = argument(
        None,
        "exponent of the class probability; the proposal's score has `1 - beta`. None: the "
        "class probability alone",
        kind=SETTING,
        least=0,
        most=1,
    )
    gamma: float | None = argument(
        None,
        "exponent of the class prior (probability calibration), or None",
        kind=SETTING,
        least=0,
    )
    class_prior: tuple[int, ...] | None = argument(
        None,
        "detections of each class in a first pass, for `gamma`; a class without any counts as one",
        kind=SETTING,
    )

    def check(self) -> None:
        """Sizes, vocabularies and the class prior go together."""
        super().check()
        require(self.depth in LAYERS, "depth", "50 or 101", self.depth)
        layers = self.clip_layers
        require(
            layers is None or (len(layers) == 4 and min(layers) > 0),
            "clip_layers",
            "blocks in each of four stages",
            layers,
        )
        require(self.clip_width % 2 == 0, "clip_width", "an even number above 0", self.clip_width)
        require(self.roi_size % 2 == 0, "roi_size", "an even number", self.roi_size)
        sizes = self.vocabulary_sizes
        require(
            not sizes or (min(sizes) > 0 and max(sizes) == self.num_classes),
            "vocabulary_sizes",
            f"sizes of which the largest is num_classes ({self.num_classes})",
            sizes,
        )
        prior = self.class_prior
        require(
            self.gamma is None or prior is not None,
            "class_prior",
            "the detections of each class with gamma",
            prior,
        )
        count = self.label_count()
        require(
            prior is None or (len(prior) == count and min(prior) >= 0),
            "class_prior",
            f"{count} counts",
            f"{len(prior or ())} numbers, the least {min(prior or (0,))}",
        )

    def label_count(self) -> int:
        """Classes of the vocabulary that inference uses."""
        return self.vocabulary_sizes[0] if self.vocabulary_sizes else self.num_classes

    @property
    def stages(self) -> tuple[int, ...]:
        """Blocks in the four stages of the network."""
        return self.clip_layers or LAYERS[self.depth]
