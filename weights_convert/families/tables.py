"""Names in published files and in ours: prefixes that stand for each other.

No value changes on the way, since each dialect's conventions are arguments of the model.
"""

from __future__ import annotations

Table = tuple[tuple[str, str], ...]

#: ResNet parts that other layouts carry without a prefix of their own.
STEM_AND_STAGES = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")

#: torchvision's and every derived ImageNet classifier: the native names.
RESNET: Table = tuple((part, part) for part in (*STEM_AND_STAGES, "fc."))

YHENON: Table = (
    *((part, f"backbone.{part}") for part in STEM_AND_STAGES),
    *((f"fpn.P{level}_1.", f"neck.lateral.{level - 3}.") for level in (3, 4, 5)),
    *((f"fpn.P{level}_2.", f"neck.output.{level - 3}.") for level in (3, 4, 5)),
    ("fpn.P6.", "neck.extra.0."),
    ("fpn.P7_2.", "neck.extra.1."),
    *((f"classificationModel.conv{i + 1}.", f"head.cls_tower.{i}.conv.") for i in range(4)),
    ("classificationModel.output.", "head.cls_out."),
    *((f"regressionModel.conv{i + 1}.", f"head.box_tower.{i}.conv.") for i in range(4)),
    ("regressionModel.output.", "head.box_out."),
)

MMDET: Table = (
    *((f"backbone.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
    *((f"neck.lateral_convs.{i}.conv.", f"neck.lateral.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i}.conv.", f"neck.output.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i + 3}.conv.", f"neck.extra.{i}.") for i in range(2)),
    *((f"bbox_head.cls_convs.{i}.conv.", f"head.cls_tower.{i}.conv.") for i in range(4)),
    ("bbox_head.retina_cls.", "head.cls_out."),
    *((f"bbox_head.reg_convs.{i}.conv.", f"head.box_tower.{i}.conv.") for i in range(4)),
    ("bbox_head.retina_reg.", "head.box_out."),
)


#: Most blocks that a published ResNet has in each stage.
MOST_BLOCKS = (3, 8, 36, 3)


def detectron2_block(theirs: str, ours: str) -> Table:
    """Names of one residual block, whose norms detectron2 hangs below the convolutions."""
    return (
        *((f"{theirs}conv{i}.norm.", f"{ours}bn{i}.") for i in (1, 2, 3)),
        *((f"{theirs}conv{i}.", f"{ours}conv{i}.") for i in (1, 2, 3)),
        (f"{theirs}shortcut.norm.", f"{ours}downsample.1."),
        (f"{theirs}shortcut.", f"{ours}downsample.0."),
    )


def detectron2_resnet(prefix: str, stages: int = 4) -> Table:
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
            for row in detectron2_block(
                f"{prefix}res{stage + 2}.{i}.", f"backbone.layer{stage + 1}.{i}."
            )
        ),
    )


DETECTRON2: Table = (
    *detectron2_resnet("backbone.bottom_up."),
    *((f"backbone.fpn_lateral{i + 3}.", f"neck.lateral.{i}.") for i in range(3)),
    *((f"backbone.fpn_output{i + 3}.", f"neck.output.{i}.") for i in range(3)),
    *((f"backbone.top_block.p{i + 6}.", f"neck.extra.{i}.") for i in range(2)),
    # A ReLU sits between the convolutions of a tower.
    *((f"head.cls_subnet.{2 * i}.", f"head.cls_tower.{i}.conv.") for i in range(4)),
    ("head.cls_score.", "head.cls_out."),
    *((f"head.bbox_subnet.{2 * i}.", f"head.box_tower.{i}.conv.") for i in range(4)),
    ("head.bbox_pred.", "head.box_out."),
)


def torchvision(pyramid: str, tower: tuple[tuple[str, str], ...]) -> Table:
    """Table of a torchvision RetinaNet.

    Args:
        pyramid: What stands between a pyramid layer's index and "weight": "." or ".0.".
        tower: For each tower layer its names in the file and in ours.
    """
    return (
        *((f"backbone.body.{part}", f"backbone.{part}") for part in STEM_AND_STAGES),
        *((f"backbone.fpn.inner_blocks.{i}{pyramid}", f"neck.lateral.{i}.") for i in range(3)),
        *((f"backbone.fpn.layer_blocks.{i}{pyramid}", f"neck.output.{i}.") for i in range(3)),
        ("backbone.fpn.extra_blocks.p6.", "neck.extra.0."),
        ("backbone.fpn.extra_blocks.p7.", "neck.extra.1."),
        *((f"head.classification_head.conv.{a}", f"head.cls_tower.{b}") for a, b in tower),
        ("head.classification_head.cls_logits.", "head.cls_out."),
        *((f"head.regression_head.conv.{a}", f"head.box_tower.{b}") for a, b in tower),
        ("head.regression_head.bbox_reg.", "head.box_out."),
    )


#: Before torchvision 0.13 a ReLU sat between the convolutions of a tower: 0, 2, 4, 6.
TORCHVISION_V1_FILE = torchvision(".", tuple((f"{2 * i}.", f"{i}.conv.") for i in range(4)))
TORCHVISION_V1_MODULE = torchvision(".0.", tuple((f"{i}.0.", f"{i}.conv.") for i in range(4)))
TORCHVISION_V2 = torchvision(
    ".0.",
    tuple(
        pair for i in range(4) for pair in ((f"{i}.0.", f"{i}.conv."), (f"{i}.1.", f"{i}.norm."))
    ),
)


def rename(name: str, table: Table) -> str | None:
    """The name on the table's right-hand side, or None when no prefix fits."""
    for left, right in table:
        if name.startswith(left):
            return right + name[len(left) :]
    return None


def reverse(table: Table) -> Table:
    """The table for the way back."""
    return tuple((right, left) for left, right in table)
