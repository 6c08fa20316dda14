"""The families of published checkpoints that can be imported and exported."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unidet.errors import suggestion

from ..errors import CheckpointError
from . import tables
from .family import Family, Form, Mapped, backbone_state

__all__ = [
    "FAMILIES",
    "Family",
    "Form",
    "Mapped",
    "backbone_state",
    "detect_family",
    "family_named",
    "looks_like",
]

_TV_HEAD = "head.classification_head.cls_logits.weight"
_TV_STEM = "backbone.body.conv1.weight"

#: All families by name.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "torchvision_resnet",
            "an ImageNet ResNet of torchvision",
            (Form("", tables.RESNET, ("bn1.running_var", "layer4.0.conv1.weight", "fc.weight")),),
        ),
        Family(
            "torchvision_retinanet_v1",
            "torchvision's retinanet_resnet50_fpn",
            (
                Form(
                    "file",
                    tables.TORCHVISION_V1_FILE,
                    (_TV_HEAD, "backbone.fpn.inner_blocks.0.weight"),
                    _TV_STEM,
                ),
                Form(
                    "module",
                    tables.TORCHVISION_V1_MODULE,
                    (
                        _TV_HEAD,
                        "backbone.fpn.inner_blocks.0.0.weight",
                        "head.classification_head.conv.0.0.bias",
                    ),
                    _TV_STEM,
                ),
            ),
            dialect="torchvision_v1",
            extra_source="p5",
            frozen_norm=True,
        ),
        Family(
            "torchvision_retinanet_v2",
            "torchvision's retinanet_resnet50_fpn_v2",
            (
                Form(
                    "",
                    tables.TORCHVISION_V2,
                    (_TV_HEAD, "head.classification_head.conv.0.1.weight"),
                    _TV_STEM,
                ),
            ),
            dialect="torchvision_v2",
            head_norm=True,
        ),
        Family(
            "mmdet_retinanet",
            "mmdetection's retinanet_r50_fpn",
            (
                Form(
                    "",
                    tables.MMDET,
                    ("bbox_head.retina_cls.weight", "neck.fpn_convs.3.conv.weight"),
                    "backbone.conv1.weight",
                ),
            ),
            dialect="mmdet",
            wrapper="state_dict",
        ),
        Family(
            "yhenon_retinanet",
            "a RetinaNet of yhenon/pytorch-retinanet",
            (
                Form(
                    "",
                    tables.YHENON,
                    ("classificationModel.output.weight", "regressionModel.output.weight"),
                ),
            ),
            dialect="yhenon",
        ),
    )
}

#: Kinds that are known by sight, so that a message can name them.
_SIGHTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("unidet's own RetinaNet", ("neck.lateral.0.weight", "head.cls_out.weight")),
    ("detectron2's RetinaNet", ("head.cls_subnet.0.weight", "backbone.fpn_lateral3.weight")),
    ("a two-stage detector of detectron2", ("proposal_generator.rpn_head.conv.weight",)),
    (
        "torchvision's Faster R-CNN",
        ("rpn.head.bbox_pred.weight", "roi_heads.box_predictor.cls_score.weight"),
    ),
    ("a two-stage detector of mmdetection", ("rpn_head.rpn_conv.weight",)),
    ("Facebook's DETR", ("query_embed.weight", "class_embed.weight")),
    ("Hugging Face's DETR", ("class_labels_classifier.weight",)),
    ("OpenAI's CLIP", ("visual.conv1.weight", "token_embedding.weight")),
)


def detect_family(state: Mapping[str, np.ndarray], *, source: str = "the file") -> Family:
    """The family of a file, from the names and shapes of its tensors.

    Raises:
        CheckpointError: it belongs to none; the message says what it looks like.
    """
    shapes = {name: array.shape for name, array in state.items()}
    for family in FAMILIES.values():
        if family.matches(shapes):
            return family
    raise CheckpointError(
        f"Invalid checkpoint {source}. Expected one of the families {', '.join(FAMILIES)}. "
        f"Received {looks_like(state)}."
    )


def looks_like(state: Mapping[str, np.ndarray]) -> str:
    """What a state is, in words, for messages."""
    shapes = {name: array.shape for name, array in state.items()}
    for family in FAMILIES.values():
        if family.matches(shapes):
            return family.title
    for title, names in _SIGHTS:
        if all(name in state for name in names):
            return f"what looks like {title}"
    first = ", ".join(list(state)[:3])
    return f"{len(state)} tensors of an unknown model ({first}, ...)"


def family_named(name: str) -> Family:
    """The family called ``name``.

    Raises:
        CheckpointError: there is none.
    """
    if name not in FAMILIES:
        raise CheckpointError(
            f"Invalid family {name!r}. Expected one of {', '.join(FAMILIES)}."
            f"{suggestion(name, FAMILIES)}"
        )
    return FAMILIES[name]
