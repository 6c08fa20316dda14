"""CLIP of OpenAI and RegionCLIP: names, networks and families."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import CheckpointError
from .architecture import BLOCKS, Shape
from .family import DETECTRON2_AUTHOR, Family, Form
from .mapping import CLIP_STEM
from .native import native_shapes
from .networks import Expected, Shapes
from .rename import Table

#: Layers before the stages.
CLIP_STEM_PARTS = ("conv1.", "bn1.", "conv2.", "bn2.", "conv3.", "bn3.")
TO_C4 = (*CLIP_STEM_PARTS, "layer1.", "layer2.", "layer3.")
_VISUAL = (*TO_C4, "layer4.", "attnpool.")

#: OpenAI's names are the native ones.
OPENAI_CLIP: Table = tuple(
    (part, part)
    for part in (
        *("visual.", "transformer.", "token_embedding.", "positional_embedding", "ln_final."),
        *("text_projection", "logit_scale"),
    )
)

REGIONCLIP: Table = tuple((f"backbone.{part}", part) for part in _VISUAL)
SHARED_HEAD, BOX_HEAD = "roi_head.shared_head.", "roi_head.bbox_head."
REGIONCLIP_MMDET: Table = (
    *((f"backbone.{part}", part) for part in TO_C4),
    (f"{SHARED_HEAD}layer4.", "layer4."),
    (f"{BOX_HEAD}attnpool.", "attnpool."),
)

POOL = "roi_head.bbox_head.attnpool.positional_embedding"
LAST_STAGE = "roi_head.shared_head.layer4.0.conv1.weight"
BOXES = "roi_head.bbox_head.fc_reg.weight"
RPN = "rpn_head.rpn_conv.weight"
STEM = "backbone.conv1.weight"
_TOKENS = "token_embedding.weight"
_TEXT_AND_PROJECTION = (_TOKENS, "text_projection", "visual.attnpool.positional_embedding")
#: Names of numbers that OpenAI's archives keep beside the weights.
DERIVED = ("input_resolution", "context_length", "vocab_size")


def clip_derived(shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """The numbers that OpenAI's archives keep beside the weights.

    Args:
        shapes: Of all tensors of a CLIP with a ResNet.
    """
    # One position of the pool is for the mean, and a cell is 32 pixels wide.
    side = round((shapes["visual.attnpool.positional_embedding"][0] - 1) ** 0.5)
    numbers = (32 * side, shapes["positional_embedding"][0], shapes[_TOKENS][0])
    return {name: np.array(number, np.int64) for name, number in zip(DERIVED, numbers)}


#: Depths of the visual towers.
DEPTHS = (50, 101)


def clip_depth(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Depth of CLIP's ResNet, from the blocks of its third stage.

    Args:
        shapes: Of all tensors.
        prefix: Before the stages' names.

    Raises:
        CheckpointError: it has neither 6 nor 23.
    """
    pattern = re.compile(re.escape(prefix) + r"layer3\.(\d{1,3})\.")
    found = {int(match[1]) for match in map(pattern.match, shapes) if match}
    blocks = 1 + max(found, default=-1)
    for depth in DEPTHS:
        if BLOCKS[depth][2] == blocks:
            return depth
    raise CheckpointError(
        f"Invalid CLIP. Expected 6 (RN50) or 23 (RN101) blocks in the third stage. "
        f"Received {blocks}."
    )


@dataclass(frozen=True)
class CLIPNetwork:
    """A whole CLIP with a ResNet."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return r"clip_rn(50|101)"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        from unidet.models import model_spec

        name = f"clip_rn{clip_depth(shapes, 'visual.')}"
        return Expected(native_shapes(name, {}, counters=counters), name, model_spec(name).defaults)


@dataclass(frozen=True)
class CLIPVisualNetwork:
    """The visual tower of CLIP's RN50 by itself."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return "clip_rn50_visual"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        return Expected(native_shapes(self.models, {}, counters=counters), self.models, {})


#: In the order in which they are tried.
FAMILIES = (
    Family(
        "openai_clip",
        "a CLIP of OpenAI with a ResNet",
        CLIPNetwork(),
        (
            Form(
                "archive",
                OPENAI_CLIP,
                (*_TEXT_AND_PROJECTION, "vocab_size"),
                "visual.conv1.weight",
                stem_shape=CLIP_STEM,
                derived=clip_derived,
            ),
            Form(
                "state",
                OPENAI_CLIP,
                _TEXT_AND_PROJECTION,
                "visual.conv1.weight",
                ("vocab_size",),
                stem_shape=CLIP_STEM,
            ),
        ),
        widens=True,
        ignored=DERIVED,
    ),
    Family(
        "regionclip",
        "RegionCLIP's visual tower",
        CLIPVisualNetwork(),
        (
            Form(
                "",
                REGIONCLIP,
                ("backbone.attnpool.positional_embedding", "backbone.layer4.0.conv1.weight"),
                STEM,
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
                REGIONCLIP_MMDET,
                (POOL, LAST_STAGE),
                STEM,
                (BOXES, RPN),
                stem_shape=CLIP_STEM,
            ),
        ),
        widens=True,
        wrapper="state_dict",
    ),
)
