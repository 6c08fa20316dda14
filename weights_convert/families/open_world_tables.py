"""Names of CLIP, RegionCLIP and UniDetector in published files and in ours."""

from __future__ import annotations

from .tables import STEM_AND_STAGES, Table

#: Layers before the stages.
CLIP_STEM_PARTS = ("conv1.", "bn1.", "conv2.", "bn2.", "conv3.", "bn3.")
_TO_C4 = (*CLIP_STEM_PARTS, "layer1.", "layer2.", "layer3.")
_VISUAL = (*_TO_C4, "layer4.", "attnpool.")

#: OpenAI's names are the native ones.
OPENAI_CLIP: Table = tuple(
    (part, part)
    for part in (
        *("visual.", "transformer.", "token_embedding.", "positional_embedding", "ln_final."),
        *("text_projection", "logit_scale"),
    )
)

REGIONCLIP: Table = tuple((f"backbone.{part}", part) for part in _VISUAL)
_SHARED_HEAD, _BOX_HEAD = "roi_head.shared_head.", "roi_head.bbox_head."
REGIONCLIP_MMDET: Table = (
    *((f"backbone.{part}", part) for part in _TO_C4),
    (f"{_SHARED_HEAD}layer4.", "layer4."),
    (f"{_BOX_HEAD}attnpool.", "attnpool."),
)

_RPN: Table = (
    ("rpn_head.rpn_conv.", "rpn.convs.0."),
    ("rpn_head.rpn_cls.", "rpn.cls_out."),
    ("rpn_head.rpn_reg.", "rpn.box_out."),
)
#: Of the end-to-end detector and of the second stage, which has no RPN.
UNIDETECTOR: Table = (
    *((f"backbone.{part}", f"backbone.{part}") for part in _TO_C4),
    (f"{_SHARED_HEAD}layer4.", "head.layer4."),
    (f"{_BOX_HEAD}attnpool.", "head.attnpool."),
    (f"{_BOX_HEAD}fc_reg.", "head.box_out."),
    # Also of several vocabularies, which count from 0: zs_weights_0.
    (f"{_BOX_HEAD}zs_weights", "head.text_embeddings"),
    *_RPN,
)
UNIDETECTOR_CLN: Table = (
    *((f"backbone.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
    *((f"neck.lateral_convs.{i}.conv.", f"neck.lateral.{i}.") for i in range(4)),
    *((f"neck.fpn_convs.{i}.conv.", f"neck.output.{i}.") for i in range(4)),
    *_RPN,
    ("rpn_head.rpn_obj.", "rpn.quality_out."),
    *((f"{_BOX_HEAD}shared_fcs.{i}.", f"head.fcs.{i}.") for i in range(2)),
    (f"{_BOX_HEAD}fc_cls.", "head.cls_out."),
    (f"{_BOX_HEAD}fc_reg.", "head.box_out."),
    (f"{_BOX_HEAD}fc_bbox_score.", "head.quality_out."),
)


def _start(prefix: str) -> Table:
    """From a tower whose parts all have this prefix into a detector, whose head has the end."""
    return (
        (f"{prefix}layer4.", "head.layer4."),
        (f"{prefix}attnpool.", "head.attnpool."),
        *((f"{prefix}{part}", f"backbone.{part}") for part in _TO_C4),
    )


#: Towers that start a detector: in words, the prefix of the pool, and the names in the detector.
STARTS: tuple[tuple[str, str, Table], ...] = (
    ("a CLIP of OpenAI's layout", "visual.attnpool.", _start("visual.")),
    ("RegionCLIP", "backbone.attnpool.", _start("backbone.")),
    ("a visual tower of CLIP", "attnpool.", _start("")),
    ("RegionCLIP in mmdetection's form", f"{_BOX_HEAD}attnpool.", UNIDETECTOR),
)
