"""What the names and shapes of a state tell about the network that it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError

Shape = tuple[int, ...]

#: Blocks in each stage, by depth.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_BOTTLENECK_FROM = 50
COUNTER = "num_batches_tracked"


def is_counter(name: str) -> bool:
    """Whether a name is a batch norm's step count, which inference does not use."""
    return name.rpartition(".")[2] == COUNTER


@dataclass(frozen=True)
class RetinaNetShape:
    """What decides the names and shapes of a RetinaNet's tensors.

    Attributes:
        depth: Of the ResNet.
        num_classes: Outputs of each anchor.
        anchors: Anchors in a cell.
        fpn_channels: Width of the pyramid.
        head_channels: Width of the towers.
        head_depth: Convolutions in a tower.
        extra_source: P6 comes from "c5" or "p5".
        head_norm: The towers have group norm and no biases.
    """

    depth: int
    num_classes: int
    anchors: int = 9
    fpn_channels: int = 256
    head_channels: int = 256
    head_depth: int = 4
    extra_source: str = "c5"
    head_norm: bool = False


def infer_depth(shapes: Mapping[str, Shape], prefix: str = "") -> int:
    """Depth of a ResNet from its block counts.

    Raises:
        CheckpointError: the counts are no published ResNet's.
    """
    # Any tensor of a block counts, so that a single missing one is reported as missing.
    pattern = re.compile(re.escape(prefix) + r"layer([1-4])\.(\d{1,3})\.(\w+)")
    found = [match.groups() for match in map(pattern.match, shapes) if match]
    counts = [
        1 + max((int(block) for at, block, _ in found if at == stage), default=-1)
        for stage in "1234"
    ]
    bottleneck = any(part in ("conv3", "bn3") for _, _, part in found)
    for depth, blocks in BLOCKS.items():
        if tuple(counts) == blocks and (depth >= _BOTTLENECK_FROM) == bottleneck:
            return depth
    kind = "bottleneck" if bottleneck else "basic"
    raise CheckpointError(
        f"Invalid ResNet. Expected depth {', '.join(map(str, BLOCKS))}. Received stages of "
        f"{', '.join(map(str, counts))} {kind} blocks."
    )


def infer_retinanet(shapes: Mapping[str, Shape]) -> RetinaNetShape:
    """What a native RetinaNet state was made from.

    Raises:
        CheckpointError: the tensors that tell are missing or contradict each other.
    """
    depth = infer_depth(shapes, "backbone.")
    rows = {name: rows_of(shapes, f"head.{name}.weight") for name in ("cls_out", "box_out")}
    anchors = rows["box_out"] // 4
    if rows["box_out"] % 4 or not anchors or rows["cls_out"] % anchors:
        raise CheckpointError(
            "Invalid head. Expected 4 box outputs and K class outputs for each anchor. "
            f"Received {rows['box_out']} and {rows['cls_out']} channels."
        )
    head_depth = 0
    while f"head.cls_tower.{head_depth}.conv.weight" in shapes:
        head_depth += 1
    fpn = rows_of(shapes, "neck.lateral.0.weight")
    first = "head.cls_tower.0.conv.weight"
    extra = shapes.get("neck.extra.0.weight", ())
    return RetinaNetShape(
        depth=depth,
        num_classes=rows["cls_out"] // anchors,
        anchors=anchors,
        fpn_channels=fpn,
        head_channels=rows_of(shapes, first) if head_depth else fpn,
        head_depth=head_depth,
        extra_source="p5" if len(extra) == 4 and extra[1] == fpn else "c5",
        head_norm="head.cls_tower.0.norm.weight" in shapes,
    )


def rows_of(shapes: Mapping[str, Shape], name: str) -> int:
    """First side of a tensor that tells what a model was made from.

    Raises:
        CheckpointError: it is missing.
    """
    shape = shapes.get(name)
    if not shape:
        raise CheckpointError(f"Invalid detector. Expected the tensor {name}. Received none.")
    return shape[0]
