"""What a family demands of a state's names and shapes, and which native model it then fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ..errors import CheckpointError
from .architecture import (
    RetinaNetShape,
    Shape,
    infer_depth,
    infer_retinanet,
    resnet_shapes,
    retinanet_shapes,
)
from .two_stage import faster_rcnn_shapes, infer_faster_rcnn

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Expected:
    """What a state should hold.

    Attributes:
        shapes: Native names and shapes.
        name: Of the native model, without the dialect.
        arguments: Those that differ from what the name stands for.
        own: Tensors that only the native model has, and their values in the beginning.
        may_lack: Tensors that a file need not have, and what stands for them.
    """

    shapes: dict[str, Shape]
    name: str
    arguments: dict[str, Any]
    own: Mapping[str, np.ndarray] = field(default_factory=dict)
    may_lack: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """What a file says beside its tensors.

    Attributes:
        arguments: Of the native model.
        remarks: What an import must say.
        name: Of the native model, without the dialect, where it is another than the tensors show.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    name: str = ""


class Network(Protocol):
    """What a family's tensors are for."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names, without the dialect."""

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""


@dataclass(frozen=True)
class Classifier:
    """An ImageNet ResNet."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names, without the dialect."""
        return r"resnet\d+"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        depth = infer_depth(shapes)
        classes = shapes["fc.weight"][0] if shapes.get("fc.weight") else 1000
        wanted = resnet_shapes(depth, counters=counters, num_classes=classes)
        return Expected(wanted, f"resnet{depth}", {"num_classes": classes})


@dataclass(frozen=True)
class RetinaNetNetwork:
    """RetinaNet.

    Attributes:
        extra_source: What P6 is computed from.
        head_norm: Towers have group norm.
        own: Tensors that only the native model has, and their values.
    """

    extra_source: str = "c5"
    head_norm: bool = False
    own: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def models(self) -> str:
        """Pattern of the native models' names, without the dialect."""
        return r"retinanet_r\d+_fpn"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        found = infer_retinanet(shapes)
        # What the family fixes is demanded, not read off the file.
        net: RetinaNetShape = replace(
            found, extra_source=self.extra_source, head_norm=self.head_norm
        )
        arguments: dict[str, Any] = {"num_classes": net.num_classes}
        if net.fpn_channels != 256 or net.head_channels != net.fpn_channels:
            arguments["fpn_channels"] = net.fpn_channels
            arguments["head_channels"] = net.head_channels
        if net.head_depth != 4:
            arguments["head_depth"] = net.head_depth
        wanted = retinanet_shapes(net, counters=counters)
        return Expected(wanted, f"retinanet_r{net.depth}_fpn", arguments, self.own)


@dataclass(frozen=True)
class FasterRCNNNetwork:
    """Faster R-CNN.

    Attributes:
        style: "fpn" or "c4".
        background_first: Row 0 of the class scores is the background and counts as a class, and it
            has box rows of its own; otherwise the last row is, and it has none.
        fpn_norm: Pyramid convolutions have batch norm.
        rpn_convs: Convolutions of the RPN.
        head_convs: Convolutions of the box head.
        head_fcs: Hidden linear layers of the box head.
    """

    style: str = "fpn"
    background_first: bool = False
    fpn_norm: bool = False
    rpn_convs: int = 1
    head_convs: int = 0
    head_fcs: int = 2

    @property
    def models(self) -> str:
        """Pattern of the native models' names, without the dialect."""
        return rf"faster_rcnn_r\d+_{self.style}"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold.

        Raises:
            CheckpointError: class and box rows contradict each other.
        """
        found = infer_faster_rcnn(shapes, self.style)
        net = replace(
            found,
            fpn_norm=self.fpn_norm,
            rpn_convs=self.rpn_convs,
            head_convs=self.head_convs,
            head_fcs=self.head_fcs,
        )
        classes = net.cls_rows if self.background_first else net.cls_rows - 1
        agnostic = net.box_rows == 4 and classes > 1
        if not agnostic and net.box_rows != 4 * classes:
            place = "first" if self.background_first else "last, without box rows"
            raise CheckpointError(
                f"Invalid box head. Expected {4 * classes} box rows for {net.cls_rows} class rows "
                f"with the background {place}, or 4 for all classes. Received {net.box_rows}."
            )
        arguments: dict[str, Any] = {"num_classes": classes}
        if agnostic:
            arguments["class_agnostic"] = True
        for name, value, usual in (
            ("fpn_channels", net.fpn_channels, 256),
            ("head_channels", net.fc_channels, 1024),
            ("roi_size", net.roi_size, 7),
        ):
            if self.style == "fpn" and value != usual:
                arguments[name] = value
        wanted = faster_rcnn_shapes(net, counters=counters)
        return Expected(wanted, f"faster_rcnn_r{net.depth}_{self.style}", arguments)
