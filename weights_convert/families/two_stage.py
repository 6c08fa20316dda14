"""What the names and shapes of a Faster R-CNN tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError
from .architecture import Shape, infer_depth, rows_of

_PRETEND = (("head.res5.", "layer4."), ("backbone.", ""))


@dataclass(frozen=True)
class FasterRCNNShape:
    """What decides the names and shapes of a Faster R-CNN's tensors.

    Attributes:
        depth: Of the ResNet.
        style: "fpn" or "c4".
        cls_rows: Rows of the class scores, the background included.
        box_rows: Rows of the box deltas.
        anchors: Anchors in a cell.
        fpn_channels: Width of the pyramid.
        fpn_norm: Pyramid convolutions have batch norm and no biases.
        rpn_convs: Convolutions before the two answers of the RPN.
        head_convs: Convolutions of the box head, each with batch norm.
        head_fcs: Hidden linear layers of the box head.
        fc_channels: Width of these.
        roi_size: Side of a pooled region.
    """

    depth: int
    style: str
    cls_rows: int
    box_rows: int
    anchors: int = 3
    fpn_channels: int = 256
    fpn_norm: bool = False
    rpn_convs: int = 1
    head_convs: int = 0
    head_fcs: int = 2
    fc_channels: int = 1024
    roi_size: int = 7


def infer_faster_rcnn(shapes: Mapping[str, Shape], style: str) -> FasterRCNNShape:
    """What a native Faster R-CNN state was made from.

    Args:
        shapes: Of all tensors, under native names.
        style: "fpn" or "c4".

    Raises:
        CheckpointError: the tensors that tell are missing or contradict each other.
    """
    plain = {}
    for name, shape in shapes.items():
        for native, pretended in _PRETEND if style == "c4" else _PRETEND[1:]:
            if name.startswith(native):
                plain[pretended + name[len(native) :]] = shape
    anchors = rows_of(shapes, "rpn.cls_out.weight")
    if rows_of(shapes, "rpn.box_out.weight") != 4 * anchors:
        raise CheckpointError(
            f"Invalid region proposal network. Expected {4 * anchors} box outputs for {anchors} "
            f"anchors. Received {rows_of(shapes, 'rpn.box_out.weight')}."
        )
    net = FasterRCNNShape(
        depth=infer_depth(plain),
        style=style,
        cls_rows=rows_of(shapes, "head.cls_out.weight"),
        box_rows=rows_of(shapes, "head.box_out.weight"),
        anchors=anchors,
        rpn_convs=_count(shapes, "rpn.convs"),
        head_convs=_count(shapes, "head.convs"),
        head_fcs=_count(shapes, "head.fcs"),
    )
    if style == "c4":
        return net
    fpn = rows_of(shapes, "neck.lateral.0.weight")
    first = shapes.get("head.fcs.0.weight", ())
    fc, features = first if len(first) == 2 else (net.fc_channels, fpn * net.roi_size**2)
    side = round((features / fpn) ** 0.5) if fpn else net.roi_size
    return FasterRCNNShape(
        **{
            **vars(net),
            "fpn_channels": fpn,
            "fpn_norm": "neck.lateral_norm.0.weight" in shapes,
            "fc_channels": fc,
            "roi_size": side,
        }
    )


def _count(shapes: Mapping[str, Shape], prefix: str) -> int:
    count = 0
    while f"{prefix}.{count}.weight" in shapes:
        count += 1
    return count
