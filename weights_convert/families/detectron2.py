"""detectron2: names and families of its RetinaNet and Faster R-CNNs."""

from __future__ import annotations

import numpy as np

from .family import DETECTRON2_AUTHOR, Family, Form
from .networks import FasterRCNNNetwork, RetinaNetNetwork
from .rename import MOST_BLOCKS, Table


def _block(theirs: str, ours: str) -> Table:
    """Names of one residual block, whose norms detectron2 hangs below the convolutions."""
    return (
        *((f"{theirs}conv{i}.norm.", f"{ours}bn{i}.") for i in (1, 2, 3)),
        *((f"{theirs}conv{i}.", f"{ours}conv{i}.") for i in (1, 2, 3)),
        (f"{theirs}shortcut.norm.", f"{ours}downsample.1."),
        (f"{theirs}shortcut.", f"{ours}downsample.0."),
    )


def _resnet(prefix: str, stages: int = 4) -> Table:
    """Names of detectron2's ResNet, whose stages count from 2.

    Args:
        prefix: Put before every name in the file.
        stages: How many of the four stages there are.
    """
    return (
        (f"{prefix}stem.conv1.norm.", "backbone.bn1."),
        (f"{prefix}stem.conv1.", "backbone.conv1."),
        *(
            row
            for stage, most in enumerate(MOST_BLOCKS[:stages])
            for i in range(most)
            for row in _block(f"{prefix}res{stage + 2}.{i}.", f"backbone.layer{stage + 1}.{i}.")
        ),
    )


_RETINANET: Table = (
    *_resnet("backbone.bottom_up."),
    *((f"backbone.fpn_lateral{i + 3}.", f"neck.lateral.{i}.") for i in range(3)),
    *((f"backbone.fpn_output{i + 3}.", f"neck.output.{i}.") for i in range(3)),
    *((f"backbone.top_block.p{i + 6}.", f"neck.extra.{i}.") for i in range(2)),
    # A ReLU sits between the convolutions of a tower.
    *((f"head.cls_subnet.{2 * i}.", f"head.cls_tower.{i}.conv.") for i in range(4)),
    ("head.cls_score.", "head.cls_out."),
    *((f"head.bbox_subnet.{2 * i}.", f"head.box_tower.{i}.conv.") for i in range(4)),
    ("head.bbox_pred.", "head.box_out."),
)

_OUTPUTS: Table = (
    ("proposal_generator.rpn_head.conv.", "rpn.convs.0."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.cls_out."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.box_out."),
    ("roi_heads.box_predictor.cls_score.", "head.cls_out."),
    ("roi_heads.box_predictor.bbox_pred.", "head.box_out."),
)
_FASTER_RCNN: Table = (
    *_resnet("backbone.bottom_up."),
    *((f"backbone.fpn_lateral{i + 2}.", f"neck.lateral.{i}.") for i in range(4)),
    *((f"backbone.fpn_output{i + 2}.", f"neck.output.{i}.") for i in range(4)),
    ("roi_heads.box_head.fc1.", "head.fcs.0."),
    ("roi_heads.box_head.fc2.", "head.fcs.1."),
    *_OUTPUTS,
)
_FASTER_RCNN_C4: Table = (
    *_resnet("backbone.", stages=3),
    *(row for i in range(3) for row in _block(f"roi_heads.res5.{i}.", f"head.res5.{i}.")),
    *_OUTPUTS,
)

_D2_STEM = "backbone.bottom_up.stem.conv1.weight"
#: What old files of detectron2 carry beside the weights; anchors and preprocessing are arguments.
_D2_IGNORED = (
    r"(proposal_generator\.)?anchor_generator\.cell_anchors\.\d+",
    r"pixel_(mean|std)",
)
#: In the order in which they are tried.
FAMILIES = (
    Family(
        "detectron2_retinanet",
        "detectron2's retinanet_R_50_FPN",
        # detectron2 keeps the divisor of its losses outside the file and starts it anew.
        RetinaNetNetwork(own={"loss_divisor": np.full(1, 100, np.float32)}),
        (Form("", _RETINANET, ("head.cls_subnet.0.weight", "head.cls_score.bias"), _D2_STEM),),
        preset="detectron2",
        frozen_norm=True,
        ignored=_D2_IGNORED,
        wrapper="model",
        constants=DETECTRON2_AUTHOR,
    ),
    Family(
        "detectron2_faster_rcnn",
        "detectron2's faster_rcnn_R_50_FPN",
        FasterRCNNNetwork(),
        (
            Form(
                "",
                _FASTER_RCNN,
                ("proposal_generator.rpn_head.conv.weight", "roi_heads.box_head.fc1.weight"),
                _D2_STEM,
            ),
        ),
        preset="detectron2",
        frozen_norm=True,
        ignored=_D2_IGNORED,
        wrapper="model",
        constants=DETECTRON2_AUTHOR,
    ),
    Family(
        "detectron2_faster_rcnn_c4",
        "detectron2's faster_rcnn_R_50_C4",
        FasterRCNNNetwork(style="c4", head_fcs=0),
        (
            Form(
                "",
                _FASTER_RCNN_C4,
                ("proposal_generator.rpn_head.conv.weight", "roi_heads.res5.0.conv1.weight"),
                "backbone.stem.conv1.weight",
            ),
        ),
        preset="detectron2",
        frozen_norm=True,
        ignored=_D2_IGNORED,
        wrapper="model",
        constants=DETECTRON2_AUTHOR,
    ),
)
