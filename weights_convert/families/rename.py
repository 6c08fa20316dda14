"""Names in published files and in ours: prefixes that stand for each other.

No value changes on the way, since the conventions of each origin are arguments of the model. The
tables are in the files of their origins.
"""

from __future__ import annotations

Table = tuple[tuple[str, str], ...]

#: ResNet parts that other layouts carry without a prefix of their own.
STEM_AND_STAGES = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")

#: torchvision's and every derived ImageNet classifier: the native names.
RESNET: Table = tuple((part, part) for part in (*STEM_AND_STAGES, "fc."))

#: Most blocks that a published ResNet has in each stage.
MOST_BLOCKS = (3, 8, 36, 3)


def rename(name: str, table: Table) -> str | None:
    """The name on the table's right-hand side, or None when no prefix fits."""
    for left, right in table:
        if name.startswith(left):
            return right + name[len(left) :]
    return None


def reverse(table: Table) -> Table:
    """The table for the way back."""
    return tuple((right, left) for left, right in table)
