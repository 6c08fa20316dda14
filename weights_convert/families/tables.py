"""Names in published files and in ours: prefixes that stand for each other.

No value changes on the way, since each dialect's conventions are arguments of the model.
"""

from __future__ import annotations

Table = tuple[tuple[str, str], ...]

#: ResNet parts that other layouts carry without a prefix of their own.
_STEM_AND_STAGES = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")

#: torchvision's and every derived ImageNet classifier: the native names.
RESNET: Table = tuple((part, part) for part in (*_STEM_AND_STAGES, "fc."))

YHENON: Table = (
    *((part, f"backbone.{part}") for part in _STEM_AND_STAGES),
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
    *((f"backbone.{part}", f"backbone.{part}") for part in _STEM_AND_STAGES),
    *((f"neck.lateral_convs.{i}.conv.", f"neck.lateral.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i}.conv.", f"neck.output.{i}.") for i in range(3)),
    *((f"neck.fpn_convs.{i + 3}.conv.", f"neck.extra.{i}.") for i in range(2)),
    *((f"bbox_head.cls_convs.{i}.conv.", f"head.cls_tower.{i}.conv.") for i in range(4)),
    ("bbox_head.retina_cls.", "head.cls_out."),
    *((f"bbox_head.reg_convs.{i}.conv.", f"head.box_tower.{i}.conv.") for i in range(4)),
    ("bbox_head.retina_reg.", "head.box_out."),
)


def torchvision(pyramid: str, tower: tuple[tuple[str, str], ...]) -> Table:
    """Table of a torchvision RetinaNet.

    Args:
        pyramid: What stands between a pyramid layer's index and "weight": "." or ".0.".
        tower: For each tower layer its names in the file and in ours.
    """
    return (
        *((f"backbone.body.{part}", f"backbone.{part}") for part in _STEM_AND_STAGES),
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
