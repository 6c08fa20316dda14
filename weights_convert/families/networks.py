"""What a family demands of a state's names and shapes, and which native model it then fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..errors import CheckpointError
from .architecture import Shape, infer_depth, infer_retinanet
from .native import native_shapes
from .two_stage import infer_faster_rcnn

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Expected:
    """What a state should hold.

    Attributes:
        shapes: Native names and shapes.
        name: Of the native model, without the preset.
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
class Metadata:
    """What a file says beside its tensors.

    Attributes:
        arguments: Of the native model.
        remarks: What an import must say.
        name: Of the native model, without the preset, where it is another than the tensors show.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    name: str = ""


class Network(Protocol):
    """What a family's tensors are for."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names, without the preset."""

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""


@dataclass(frozen=True)
class ModelNetwork:
    """The network of any model: names and shapes are read off the model itself.

    Attributes:
        models: Pattern of the native models' names, without the preset.
        infer: Gives the name of the model, without the preset, and those arguments that the
            shapes of a state (under native names) show.
        fixed: Arguments that the family demands, which the file does not show.
    """

    models: str
    infer: Callable[[Shapes], tuple[str, dict[str, Any]]]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        name, arguments = self.infer(shapes)
        wanted = native_shapes(name, {**arguments, **self.fixed}, counters=counters)
        return Expected(wanted, name, arguments)


@dataclass(frozen=True)
class Classifier:
    """An ImageNet ResNet."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names, without the preset."""
        return r"resnet\d+"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        depth = infer_depth(shapes)
        classes = shapes["fc.weight"][0] if shapes.get("fc.weight") else 1000
        name, arguments = f"resnet{depth}", {"num_classes": classes}
        return Expected(native_shapes(name, arguments, counters=counters), name, arguments)


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
        """Pattern of the native models' names, without the preset."""
        return r"retinanet_r\d+_fpn"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        net = infer_retinanet(shapes)
        arguments: dict[str, Any] = {"num_classes": net.num_classes}
        if net.fpn_channels != 256 or net.head_channels != net.fpn_channels:
            arguments["fpn_channels"] = net.fpn_channels
            arguments["head_channels"] = net.head_channels
        if net.head_depth != 4:
            arguments["head_depth"] = net.head_depth
        name = f"retinanet_r{net.depth}_fpn"
        # What the family fixes is demanded, not read off the file.
        fixed = {
            "extra_source": self.extra_source,
            "head_norm": "group" if self.head_norm else None,
            "anchor_ratios": (1.0,) * net.anchors,
            "anchor_sizes": ((32.0,),) * 5,
        }
        wanted = native_shapes(name, {**arguments, **fixed}, counters=counters)
        return Expected(wanted, name, arguments, self.own)


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
        """Pattern of the native models' names, without the preset."""
        return rf"faster_rcnn_r\d+_{self.style}"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold.

        Raises:
            CheckpointError: class and box rows contradict each other.
        """
        net = infer_faster_rcnn(shapes, self.style)
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
        name = f"faster_rcnn_r{net.depth}_{self.style}"
        levels = 5 if self.style == "fpn" else 1
        # What the family fixes is demanded, not read off the file.
        fixed: dict[str, Any] = {
            "fpn_norm": "batch" if self.fpn_norm else None,
            "rpn_convs": self.rpn_convs,
            "anchor_ratios": (1.0,) * net.anchors,
            "anchor_sizes": ((32.0,),) * levels,
        }
        if self.style == "fpn":
            fixed["head"] = "4conv1fc" if self.head_convs else "2fc"
            fixed["head_norm"] = "batch" if self.head_convs else None
        if self.background_first:
            fixed |= {"background": "first", "background_slot": 0, "box_background": True}
        wanted = native_shapes(name, {**arguments, **fixed}, counters=counters)
        return Expected(wanted, name, arguments)
