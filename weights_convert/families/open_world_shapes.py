"""What the names and shapes of CLIP and of UniDetector's networks tell."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import CheckpointError
from .architecture import BLOCKS, Shape

#: Depths of the visual towers.
DEPTHS = (50, 101)
_VOCABULARY = "head.text_embeddings"


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


def vocabulary_sizes(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    """Classes of each vocabulary; a single one without a number counts as one.

    Args:
        shapes: Of all tensors, under native names.

    Raises:
        CheckpointError: a number or a whole shape is missing.
    """
    pattern = re.compile(re.escape(_VOCABULARY) + r"(?:_(\d{1,4}))?")
    matches = {name: pattern.fullmatch(name) for name in shapes}
    found = sorted((int(match[1] or 0), name) for name, match in matches.items() if match)
    for place, (number, name) in enumerate(found):
        if number != place or len(shapes[name]) != 2 or shapes[name][1] < 2:
            raise CheckpointError(
                "Invalid vocabularies. Expected embeddings (dimension, classes + 1), numbered from "
                f"0 where there are several. Received {name} {shapes[name]} at place {place}."
            )
    return tuple(shapes[name][1] - 1 for _, name in found)
