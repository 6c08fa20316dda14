"""CLIP, RegionCLIP and UniDetector: checkpoints that can be imported and exported."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import open_world_tables as tables
from .architecture import Shape
from .family import DETECTRON2_AUTHOR, Family, Form
from .mapping import CLIP_STEM
from .open_world_networks import CLIPDetectorNetwork, CLIPNetwork, CLIPVisualNetwork, CLNNetwork

_POOL = "roi_head.bbox_head.attnpool.positional_embedding"
_LAST_STAGE = "roi_head.shared_head.layer4.0.conv1.weight"
_BOXES = "roi_head.bbox_head.fc_reg.weight"
_RPN = "rpn_head.rpn_conv.weight"
_NUMBERED = "roi_head.bbox_head.zs_weights_0"
_STEM = "backbone.conv1.weight"
_TOKENS = "token_embedding.weight"
_TEXT_AND_PROJECTION = (_TOKENS, "text_projection", "visual.attnpool.positional_embedding")
#: Names of numbers that OpenAI's archives keep beside the weights.
FACTS = ("input_resolution", "context_length", "vocab_size")


def clip_facts(shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """The numbers that OpenAI's archives keep beside the weights.

    Args:
        shapes: Of all tensors of a CLIP with a ResNet.
    """
    # One position of the pool is for the mean, and a cell is 32 pixels wide.
    side = round((shapes["visual.attnpool.positional_embedding"][0] - 1) ** 0.5)
    numbers = (32 * side, shapes["positional_embedding"][0], shapes[_TOKENS][0])
    return {name: np.array(number, np.int64) for name, number in zip(FACTS, numbers)}


_CLIP = (
    Family(
        "openai_clip",
        "a CLIP of OpenAI with a ResNet",
        CLIPNetwork(),
        (
            Form(
                "archive",
                tables.OPENAI_CLIP,
                (*_TEXT_AND_PROJECTION, "vocab_size"),
                "visual.conv1.weight",
                stem_shape=CLIP_STEM,
                facts=clip_facts,
            ),
            Form(
                "state",
                tables.OPENAI_CLIP,
                _TEXT_AND_PROJECTION,
                "visual.conv1.weight",
                ("vocab_size",),
                stem_shape=CLIP_STEM,
            ),
        ),
        widens=True,
        ignored=FACTS,
    ),
    Family(
        "regionclip",
        "RegionCLIP's visual tower",
        CLIPVisualNetwork(),
        (
            Form(
                "",
                tables.REGIONCLIP,
                ("backbone.attnpool.positional_embedding", "backbone.layer4.0.conv1.weight"),
                _STEM,
                stem_shape=CLIP_STEM,
            ),
        ),
        widens=True,
        # The text tower, the teacher, the offline proposals, and what a finetuned detector adds.
        ignored=(
            r"(lang_encoder|teacher_\w+|offline_\w+|roi_heads|proposal_generator)\..*",
            r"(teacher_)?concept_emb|pixel_(mean|std)",
        ),
        wrapper="model",
        constants=DETECTRON2_AUTHOR,
    ),
    Family(
        "regionclip_mmdet",
        "RegionCLIP's visual tower in mmdetection's form",
        CLIPVisualNetwork(),
        (
            Form(
                "",
                tables.REGIONCLIP_MMDET,
                (_POOL, _LAST_STAGE),
                _STEM,
                (_BOXES, _RPN),
                stem_shape=CLIP_STEM,
            ),
        ),
        widens=True,
        wrapper="state_dict",
    ),
)


def _detector(
    name: str, title: str, network: CLIPDetectorNetwork, forms: tuple[Form, ...]
) -> Family:
    return Family(name, title, network, forms, dialect="", wrapper="state_dict", backbone=_BACKBONE)


def _form(
    signature: tuple[str, ...],
    absent: tuple[str, ...],
    name: str = "",
    network: CLIPDetectorNetwork | None = None,
) -> Form:
    names = (_BOXES, _POOL, _LAST_STAGE, *signature)
    return Form(
        name, tables.UNIDETECTOR, names, _STEM, absent, network=network, stem_shape=CLIP_STEM
    )


_BACKBONE = "CLIPResNet"
_END_TO_END = CLIPDetectorNetwork(rpn=True, partitioned=True)
_SECOND_STAGE = CLIPDetectorNetwork(rpn=False, partitioned=True)
_UNIDETECTOR = (
    _detector(
        "unidetector_e2e",
        "UniDetector's end-to-end detector",
        CLIPDetectorNetwork(rpn=True),
        (_form((_RPN,), (_NUMBERED,)),),
    ),
    _detector(
        "unidetector_stage2",
        "UniDetector's second stage",
        CLIPDetectorNetwork(rpn=False),
        (_form((), (_NUMBERED, _RPN)),),
    ),
    _detector(
        "unidetector_partitioned",
        "UniDetector with a vocabulary for each data set",
        _SECOND_STAGE,
        (
            _form((_NUMBERED,), (_RPN,), "stage2", _SECOND_STAGE),
            _form((_NUMBERED, _RPN), (), "e2e", _END_TO_END),
        ),
    ),
    Family(
        "unidetector_cln",
        "UniDetector's first stage (CLN)",
        CLNNetwork(),
        (
            Form(
                "",
                tables.UNIDETECTOR_CLN,
                ("rpn_head.rpn_obj.weight", "roi_head.bbox_head.fc_bbox_score.weight"),
                _STEM,
            ),
        ),
        dialect="",
        wrapper="state_dict",
    ),
)

#: In the order in which they are tried.
OPEN_WORLD: tuple[Family, ...] = (*_CLIP, *_UNIDETECTOR)
