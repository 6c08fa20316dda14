"""UniDetector: names, networks and families of its three official files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .architecture import Shape
from .clip import BOX_HEAD, BOXES, LAST_STAGE, POOL, RPN, SHARED_HEAD, STEM, TO_C4
from .family import Family, Form
from .mapping import CLIP_STEM
from .native import native_shapes
from .networks import Expected, Shapes
from .rename import STEM_AND_STAGES, Table

_RPN_TABLE: Table = (
    ("rpn_head.rpn_conv.", "rpn.convs.0."),
    ("rpn_head.rpn_cls.", "rpn.cls_out."),
    ("rpn_head.rpn_reg.", "rpn.box_out."),
)
#: Of the end-to-end detector and of the second stage, which has no RPN.
UNIDETECTOR: Table = (
    *((f"backbone.{part}", f"backbone.{part}") for part in TO_C4),
    (f"{SHARED_HEAD}layer4.", "head.layer4."),
    (f"{BOX_HEAD}attnpool.", "head.attnpool."),
    (f"{BOX_HEAD}fc_reg.", "head.box_out."),
    # Also of several vocabularies, which count from 0: zs_weights_0.
    (f"{BOX_HEAD}zs_weights", "head.text_embeddings"),
    *_RPN_TABLE,
)
UNIDETECTOR_CLN: Table = (
    *((f"backbone.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
    *((f"neck.lateral_convs.{i}.conv.", f"neck.lateral.{i}.") for i in range(4)),
    *((f"neck.fpn_convs.{i}.conv.", f"neck.output.{i}.") for i in range(4)),
    *_RPN_TABLE,
    ("rpn_head.rpn_obj.", "rpn.quality_out."),
    *((f"{BOX_HEAD}shared_fcs.{i}.", f"head.fcs.{i}.") for i in range(2)),
    (f"{BOX_HEAD}fc_cls.", "head.cls_out."),
    (f"{BOX_HEAD}fc_reg.", "head.box_out."),
    (f"{BOX_HEAD}fc_bbox_score.", "head.quality_out."),
)

#: Classes of a detector whose file has no vocabulary, until one is set.
NO_VOCABULARY = 80
_VOCABULARY = "head.text_embeddings"


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


@dataclass(frozen=True)
class CLIPDetectorNetwork:
    """UniDetector on CLIP's ResNet-50.

    Attributes:
        rpn: It proposes regions itself: the end-to-end detector, not the second stage.
        partitioned: It has a vocabulary for each data set.
    """

    rpn: bool
    partitioned: bool = False

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return f"unidetector_{'e2e' if self.rpn else 'stage2'}_r50_c4"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold; a file may lack its vocabulary.

        Raises:
            CheckpointError: vocabularies are numbered with gaps.
        """
        sizes = vocabulary_sizes(shapes) or (NO_VOCABULARY,)
        arguments: dict[str, Any] = {"num_classes": max(sizes)}
        if self.partitioned:
            arguments["vocabulary_sizes"] = sizes
        wanted = native_shapes(self.models, arguments, counters=counters)
        return Expected(wanted, self.models, arguments, may_lack=_no_vocabulary(wanted))


@dataclass(frozen=True)
class CLNNetwork:
    """The class-agnostic first stage."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return "unidetector_cln_r50_fpn"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        return Expected(native_shapes(self.models, {}, counters=counters), self.models, {})


def _no_vocabulary(wanted: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    return {
        name: np.zeros(shape, np.float32)
        for name, shape in wanted.items()
        if name == "head.text_embeddings"
    }


_NUMBERED = "roi_head.bbox_head.zs_weights_0"


def _detector(
    name: str, title: str, network: CLIPDetectorNetwork, forms: tuple[Form, ...]
) -> Family:
    return Family(name, title, network, forms, preset="", wrapper="state_dict", backbone=_BACKBONE)


def _form(
    signature: tuple[str, ...],
    absent: tuple[str, ...],
    name: str = "",
    network: CLIPDetectorNetwork | None = None,
) -> Form:
    names = (BOXES, POOL, LAST_STAGE, *signature)
    return Form(name, UNIDETECTOR, names, STEM, absent, network=network, stem_shape=CLIP_STEM)


_BACKBONE = "CLIPResNet"
_END_TO_END = CLIPDetectorNetwork(rpn=True, partitioned=True)
_SECOND_STAGE = CLIPDetectorNetwork(rpn=False, partitioned=True)
#: In the order in which they are tried.
FAMILIES = (
    _detector(
        "unidetector_e2e",
        "UniDetector's end-to-end detector",
        CLIPDetectorNetwork(rpn=True),
        (_form((RPN,), (_NUMBERED,)),),
    ),
    _detector(
        "unidetector_stage2",
        "UniDetector's second stage",
        CLIPDetectorNetwork(rpn=False),
        (_form((), (_NUMBERED, RPN)),),
    ),
    _detector(
        "unidetector_partitioned",
        "UniDetector with a vocabulary for each data set",
        _SECOND_STAGE,
        (
            _form((_NUMBERED,), (RPN,), "stage2", _SECOND_STAGE),
            _form((_NUMBERED, RPN), (), "e2e", _END_TO_END),
        ),
    ),
    Family(
        "unidetector_cln",
        "UniDetector's first stage (CLN)",
        CLNNetwork(),
        (
            Form(
                "",
                UNIDETECTOR_CLN,
                ("rpn_head.rpn_obj.weight", "roi_head.bbox_head.fc_bbox_score.weight"),
                STEM,
            ),
        ),
        preset="",
        wrapper="state_dict",
    ),
)
