"""Everything that tells one DETR from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unidet.checkpoints.conventions import plain
from unidet.data.preprocess import PRESETS, Preprocess
from unidet.models.config_checks import require, require_choices

_CHOICES: dict[str, tuple[Any, ...]] = {
    "depth": (18, 34, 50, 101),
    "norm": ("batch", "frozen"),
    "match_measure": ("giou", "diou", "ciou"),
    "box_loss": ("giou", "diou", "ciou"),
    "box_loss_space": ("normalised", "pixels"),
}
_SHARES = ("dropout", "attention_dropout", "activation_dropout", "input_dropout")
_COUNTS = ("num_classes", "num_queries", "width", "heads", "feedforward", "decoder_layers")
_WEIGHTS = (
    *("cost_class", "cost_bbox", "cost_giou", "weight_ce", "weight_bbox", "weight_giou"),
    *("box_loss_eps", "score_threshold"),
)


@dataclass(frozen=True)
class DETRConfig:
    """Arguments of :class:`unidet.models.detr.model.DETR`.

    Attributes:
        num_classes: classes without "no object", which is one more, the last. The published
            models count COCO's category ids: 91 slots.
        depth: of the ResNet.
        class_names: one name for each class, where known.
        norm: ``"frozen"`` (four constant vectors) or ``"batch"``.
        norm_eps: of the backbone's norm layers.
        norm_eval: batch norm uses its running statistics in training too; the affine part trains.
        frozen_stages: stages that do not train: -1 none, 0 the stem, 1 the stem and layer1, ...,
            4 the whole backbone.
        dilation: the last stage keeps the resolution of the one before and dilates instead (DC5).
        num_queries: most objects that the model can find in an image.
        width: channels of the transformer, a multiple of 4 and of ``heads``.
        heads: of each attention.
        encoder_layers, decoder_layers: how many.
        feedforward: channels between the two feed-forward layers.
        dropout: probability of leaving out what a layer adds to its input.
        attention_dropout: of leaving out a weight of attention.
        activation_dropout: of leaving out a value between the two feed-forward layers.
        input_dropout: of leaving out a value that the encoder receives.
        auxiliary_losses: every decoder layer answers and learns, not the last alone.
        renormalise: every decoder layer receives the normed answer of the one before, and the last
            answer is normed twice: what transformers does while auxiliary losses are on. Other
            weights than those trained so need False.
        cost_class, cost_bbox, cost_giou: of the matching of queries and objects.
        match_measure: overlap in the matching: ``"giou"``, ``"diou"`` or ``"ciou"``.
        weight_ce, weight_bbox, weight_giou: of the three losses.
        eos_coef: weight of the class "no object".
        box_loss: overlap in the loss: ``"giou"``, ``"diou"`` or ``"ciou"``.
        box_loss_space: boxes are measured as shares of the image, as published, or in pixels:
            distances and aspect ratios of the two differ where images are not square.
        box_loss_eps: added to the denominators of that loss.
        ciou_gate: CIoU minds the aspect ratio only where IoU is above 1/2 (mmdetection).
        score_threshold: a detection scores more than this.
        max_detections: of one image, or None for all.
        preprocess: arguments of ``unidet.data.preprocess.Preprocess``.
    """

    num_classes: int
    depth: int
    class_names: tuple[str, ...] | None = None

    norm: str = "frozen"
    norm_eps: float = 1e-5
    norm_eval: bool = False
    frozen_stages: int = 1
    dilation: bool = False

    num_queries: int = 100
    width: int = 256
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feedforward: int = 2048
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    input_dropout: float = 0.0

    auxiliary_losses: bool = True
    renormalise: bool = False
    cost_class: float = 1.0
    cost_bbox: float = 5.0
    cost_giou: float = 2.0
    match_measure: str = "giou"
    weight_ce: float = 1.0
    weight_bbox: float = 5.0
    weight_giou: float = 2.0
    eos_coef: float = 0.1
    box_loss: str = "giou"
    box_loss_space: str = "normalised"
    box_loss_eps: float = 0.0
    ciou_gate: bool = False

    score_threshold: float = 0.0
    max_detections: int | None = 100

    preprocess: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.class_names is not None:
            object.__setattr__(self, "class_names", tuple(self.class_names))
        require_choices(self, _CHOICES)
        for name in _COUNTS:
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        for name in _WEIGHTS:
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in _SHARES:
            value = getattr(self, name)
            require(0 <= value < 1, name, "0 or more and less than 1", value)
        require(self.encoder_layers >= 0, "encoder_layers", "0 or more", self.encoder_layers)
        # Without it, an image without objects would have no loss at all.
        require(self.eos_coef > 0, "eos_coef", "a number above 0", self.eos_coef)
        require(
            self.width % 4 == 0 and self.width % self.heads == 0,
            "width",
            f"a multiple of 4 and of {self.heads} heads",
            self.width,
        )
        if self.class_names is not None:
            require(
                len(self.class_names) == self.num_classes,
                "class_names",
                f"{self.num_classes} names",
                len(self.class_names),
            )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all arguments."""
        return tuple(item.name for item in fields(cls))

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain lists, numbers and strings, for YAML and JSON."""
        return {key: plain(value) for key, value in asdict(self).items()}


#: How a photo becomes DETR's input.
_PREPROCESS = Preprocess(**PRESETS["detr"]).to_dict()

#: Arguments that a dialect stands for, all but ``depth`` and ``dilation``.
DIALECTS: dict[str, dict[str, Any]] = {
    "default": {"num_classes": 91, "num_queries": 100, "preprocess": _PREPROCESS},
    "huggingface": {
        "num_classes": 91,
        "num_queries": 100,
        "preprocess": _PREPROCESS,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "input_dropout": 0.1,
        "auxiliary_losses": False,
        "frozen_stages": -1,
    },
}
