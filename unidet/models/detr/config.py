"""Arguments and presets of DETR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unidet.data.preprocess import PRESETS, Preprocess
from unidet.models.arguments import SETTING, TRAINING, VISIBLE, Arguments, argument, require

#: How a photo becomes DETR's input.
PREPROCESS = Preprocess(**PRESETS["detr"]).to_dict()


@dataclass(frozen=True)
class DETRConfig(Arguments):
    """Arguments of :class:`unidet.models.detr.DETR`; the defaults are Facebook's."""

    num_classes: int = argument(
        91,
        "classes without 'no object', which is one more, the last; COCO's category ids in the"
        " published models",
        kind=VISIBLE,
        least=1,
    )
    depth: int = argument(50, "layers of the ResNet", kind=VISIBLE, choices=(18, 34, 50, 101))
    class_names: tuple[str, ...] | None = argument(
        None,
        "name of each label, where known",
        kind=VISIBLE,
    )

    norm: str = argument(
        "frozen",
        "norm of the backbone: 'batch' or 'frozen' (four constant vectors)",
        kind=TRAINING,
        choices=("batch", "frozen"),
    )
    norm_eps: float = argument(1e-05, "eps of the norm layers")
    norm_eval: bool = argument(
        False,
        "batch norm uses its running statistics in training, too; the affine part trains",
        kind=TRAINING,
    )
    frozen_stages: int = argument(
        1,
        "stages that do not train: -1 none, 0 the stem, 1 the stem and layer1, and so on",
        kind=TRAINING,
    )
    dilation: bool = argument(
        False,
        "the last stage dilates and keeps the resolution of the stage before (DC5)",
    )

    num_queries: int = argument(
        100,
        "object queries: most objects in an image",
        kind=VISIBLE,
        least=1,
    )
    width: int = argument(
        256,
        "channels of the transformer, a multiple of 4 and of `heads`",
        kind=VISIBLE,
        least=1,
    )
    heads: int = argument(8, "heads of each attention", least=1)
    encoder_layers: int = argument(6, "encoder layers", kind=VISIBLE, least=0)
    decoder_layers: int = argument(6, "decoder layers", kind=VISIBLE, least=1)
    feedforward: int = argument(
        2048,
        "channels between the two feed-forward layers",
        kind=VISIBLE,
        least=1,
    )
    dropout: float = argument(
        0.1,
        "dropout of what a layer adds to its input",
        kind=TRAINING,
        least=0,
        below=1,
    )
    attention_dropout: float = argument(
        0.1,
        "dropout of attention weights",
        kind=TRAINING,
        least=0,
        below=1,
    )
    activation_dropout: float = argument(
        0.1,
        "dropout between the two feed-forward layers",
        kind=TRAINING,
        least=0,
        below=1,
    )
    input_dropout: float = argument(
        0.0,
        "dropout of the input of the encoder",
        kind=TRAINING,
        least=0,
        below=1,
    )

    auxiliary_losses: bool = argument(
        True,
        "every decoder layer has outputs and losses, not the last alone",
        kind=TRAINING,
    )
    renormalise: bool = argument(
        False,
        "each decoder layer receives the normed output of the one before, and the last is "
        "normed twice (transformers, with auxiliary losses)",
    )
    cost_class: float = argument(1.0, "weight of the class in the matching", kind=TRAINING, least=0)
    cost_bbox: float = argument(
        5.0,
        "weight of the L1 distance in the matching",
        kind=TRAINING,
        least=0,
    )
    cost_giou: float = argument(
        2.0,
        "weight of the overlap in the matching",
        kind=TRAINING,
        least=0,
    )
    match_measure: str = argument(
        "giou",
        "overlap in the matching",
        kind=TRAINING,
        choices=("giou", "diou", "ciou"),
    )
    weight_ce: float = argument(1.0, "weight of the class loss", kind=TRAINING, least=0)
    weight_bbox: float = argument(5.0, "weight of the L1 loss", kind=TRAINING, least=0)
    weight_giou: float = argument(2.0, "weight of the overlap loss", kind=TRAINING, least=0)
    eos_coef: float = argument(0.1, "weight of the class 'no object'", kind=TRAINING, above=0)
    box_loss: str = argument(
        "giou",
        "overlap in the loss",
        kind=TRAINING,
        choices=("giou", "diou", "ciou"),
    )
    box_loss_space: str = argument(
        "normalised",
        "the overlap loss measures boxes as shares of the image ('normalised', as published) "
        "or in 'pixels'",
        kind=TRAINING,
        choices=("normalised", "pixels"),
    )
    box_loss_eps: float = argument(
        0.0,
        "added to the denominators of the overlap loss",
        kind=TRAINING,
        least=0,
    )
    ciou_gate: bool = argument(
        False,
        "CIoU counts the aspect ratio only where IoU is above 1/2 (mmdetection)",
        kind=TRAINING,
    )

    score_threshold: float = argument(
        0.0,
        "a detection scores more than this",
        kind=SETTING,
        least=0,
        most=1,
    )
    max_detections: int | None = argument(
        100,
        "most detections of an image, or None for all",
        kind=SETTING,
    )

    preprocess: Mapping[str, Any] = argument(
        lambda: dict(PREPROCESS), "arguments of `unidet.data.preprocess.Preprocess`"
    )

    def check(self) -> None:
        """The width fits the heads and the sine positions."""
        require(
            self.width % 4 == 0 and self.width % self.heads == 0,
            "width",
            f"a multiple of 4 and of {self.heads} heads",
            self.width,
        )


#: What each preset changes in the defaults of :class:`DETRConfig`.
PRESETS_BY_NAME: dict[str, dict[str, Any]] = {
    "default": {},
    # transformers trains with one dropout, no auxiliary losses and the whole backbone.
    "huggingface": {
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "input_dropout": 0.1,
        "auxiliary_losses": False,
        "frozen_stages": -1,
    },
}
