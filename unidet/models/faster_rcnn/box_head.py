"""The second stage of Faster R-CNN: what is in a proposal, and where exactly."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from unidet.backends import nn, ops
from unidet.models.layers.resnet import make_norm, make_stage

#: Convolutions of the head "4conv1fc" (Wu and He 2018; Li et al. 2021).
CONVOLUTIONS = 4


class BoxHead(nn.Module):
    """Class scores and box deltas of each proposal.

    Args:
        kind: ``"2fc"`` (Lin et al. 2017), ``"4conv1fc"`` or ``"res5"``, the last stage of the
            ResNet and a mean over positions (He et al. 2016).
        in_channels: of the map of a proposal.
        size: side of that map.
        channels: of the fully connected layers.
        class_rows: class outputs, the background included.
        box_rows: groups of four box outputs.
        conv_norm: ``"batch"`` behind the convolutions of "4conv1fc", or None.
        depth, norm, norm_eps, stride_in_1x1: of the ResNet, for "res5".
    """

    def __init__(
        self,
        kind: str,
        in_channels: int,
        size: int,
        *,
        channels: int,
        class_rows: int,
        box_rows: int,
        conv_norm: str | None = None,
        depth: int = 50,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        self.convs = self.norms = self.fcs = self.res5 = None
        if kind == "res5":
            self.res5, width = make_stage(
                depth, 3, make_norm(norm, norm_eps), stride_in_1x1=stride_in_1x1
            )
        else:
            count = CONVOLUTIONS if kind == "4conv1fc" else 0
            convs = [
                nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=conv_norm is None)
                for _ in range(count)
            ]
            if convs:
                self.convs = nn.ModuleList(convs)
            if convs and conv_norm is not None:
                self.norms = nn.ModuleList(
                    [nn.BatchNorm2d(in_channels, eps=norm_eps) for _ in convs]
                )
            widths = [in_channels * size * size] + [channels] * (1 if convs else 2)
            self.fcs = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
            width = channels
        self.cls_out = nn.Linear(width, class_rows)
        self.box_out = nn.Linear(width, box_rows * 4)

    def features(self, x: Any) -> Any:
        """``(R, C, size, size)`` to the vectors ``(R, D)`` that are classified."""
        if self.res5 is not None:
            return ops.mean(self.res5(x), axis=(2, 3))
        for i in range(0 if self.convs is None else len(self.convs)):
            x = self.convs[i](x)
            x = ops.relu(x if self.norms is None else self.norms[i](x))
        x = ops.reshape(x, (ops.shape(x)[0], -1))
        for layer in self.fcs:
            x = ops.relu(layer(x))
        return x

    def forward(self, x: Any) -> tuple[Any, Any]:
        """Class logits ``(R, class_rows)`` and deltas ``(R, 4 * box_rows)``."""
        x = self.features(x)
        return self.cls_out(x), self.box_out(x)
