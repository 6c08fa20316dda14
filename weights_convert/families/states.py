"""From a file to the one state in it: the first steps of every import."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..containers import ContainerInfo, read_container
from ..trees import State, find_state
from .known import FAMILIES
from .sidecar import weights_in

#: Begin of the titles of our own models among the kinds known by sight.
_OWN = "unidet's own"
#: Kinds that are known by sight, so that a message can name them.
SIGHTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("unidet's own RetinaNet", ("neck.lateral.0.weight", "head.cls_out.weight")),
    ("unidet's own Faster R-CNN", ("rpn.cls_out.weight", "head.cls_out.weight")),
    ("another one-stage detector of detectron2", ("backbone.fpn_lateral3.weight",)),
    ("another two-stage detector of detectron2", ("proposal_generator.rpn_head.conv.weight",)),
    ("another two-stage detector of torchvision", ("roi_heads.box_predictor.bbox_pred.weight",)),
    ("unidet's own UniDetector", ("head.attnpool.positional_embedding", "head.box_out.weight")),
    ("unidet's own CLN", ("rpn.quality_out.weight", "head.quality_out.weight")),
    ("a proposal network of UniDetector (OLN)", ("rpn_head.rpn_obj.weight",)),
    ("another UniDetector", ("roi_head.bbox_head.attnpool.positional_embedding",)),
    ("another RegionCLIP", ("backbone.attnpool.positional_embedding",)),
    ("another two-stage detector of mmdetection", ("rpn_head.rpn_conv.weight",)),
    ("unidet's own DETR", ("query_embed.weight", "class_embed.weight", "backbone.conv1.weight")),
    ("another DETR in Facebook's names", ("query_embed.weight", "class_embed.weight")),
    ("another DETR of Hugging Face", ("class_labels_classifier.weight",)),
    ("another CLIP of OpenAI", ("visual.conv1.weight", "token_embedding.weight")),
)


def read_state(
    path: str | os.PathLike[str],
    *,
    rescue: bool = False,
    state: str | None = None,
    target: Collection[str] = (),
) -> tuple[State, ContainerInfo]:
    """Reads a file of any container and finds the weights in it.

    Args:
        path: The file, or the folder of a model of Hugging Face.
        rescue: See :func:`unidet.weights_convert.read_container`.
        state: Which state to take where the file holds several; see
            :func:`unidet.weights_convert.find_state`.
        target: Names of the tensors of the model that they are for.

    Returns:
        The state, with what lies beside the file among its extras, and facts about the file with
        notes on every choice that was made.

    Raises:
        CheckpointError: a damaged or foreign file, no tensors, or several states.
    """
    file = weights_in(Path(path))
    tree, info = read_container(file, rescue=rescue)
    own = "unidet" in info.metadata

    def grade(arrays: Mapping[str, np.ndarray]) -> int:
        if target and 2 * sum(name in arrays for name in target) > len(target):
            return 2
        return _grade(arrays)

    found = find_state(tree, source=str(file), wanted=state, grade=None if own else grade)
    info.notes += found.notes
    add_sidecar(found, file)
    return found, info


def add_sidecar(state: State, weights: Path) -> None:
    """Puts what lies beside a file of weights into ``state.extras``, where its family wants that.

    Args:
        state: Of the file.
        weights: The file.

    Raises:
        CheckpointError: what lies there is damaged.
    """
    shapes = {name: array.shape for name, array in state.arrays.items()}
    for family in FAMILIES.values():
        if family.sidecar is not None and family.matches(shapes):
            content = family.sidecar.read(weights)
            if content is not None:
                state.extras[family.sidecar.name] = content


def _grade(arrays: Mapping[str, Any]) -> int:
    shapes = {name: array.shape for name, array in arrays.items()}
    known = [family for family in FAMILIES.values() if family.matches(shapes)]
    if any(family.preset is not None for family in known):
        return 2
    own = any(
        title.startswith(_OWN) and all(name in arrays for name in names) for title, names in SIGHTS
    )
    return 2 if own else int(bool(known))
