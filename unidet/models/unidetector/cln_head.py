"""The two heads of UniDetector's first stage: what is an object, and how well is it framed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unidet.backends import nn, ops
from unidet.models.faster_rcnn.box_head import BoxHead
from unidet.models.layers.unit_vectors import unit_vectors


class CLNProposalHead(nn.Module):
    """Distances to the sides of a box, and its centerness, at each anchor; one anchor in a cell.

    Args:
        channels: of every level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1)])
        # The published files hold a class branch whose loss weighs nothing; nothing reads it.
        self.cls_out = nn.Conv2d(channels, 1, 1)
        self.box_out = nn.Conv2d(channels, 4, 1)
        self.quality_out = nn.Conv2d(channels, 1, 1)

    def forward(self, levels: Sequence[Any]) -> tuple[Any, Any]:
        """Logits of the centerness ``(N, A)`` and distances ``(N, A, 4)``, level after level."""
        quality, distances = [], []
        for x in levels:
            x = ops.relu(self.convs[0](x))
            x = unit_vectors(x, 1)
            count = ops.shape(x)[0]
            quality.append(ops.reshape(self.quality_out(x), (count, -1)))
            box = ops.transpose(self.box_out(x), (0, 2, 3, 1))
            distances.append(ops.reshape(box, (count, -1, 4)))
        return ops.concat(quality, axis=1), ops.concat(distances, axis=1)


class CLNBoxHead(BoxHead):
    """Object or background, deltas, and the IoU of the proposal with its object.

    Args:
        in_channels: of the map of a proposal.
        size: side of that map.
        channels: of the fully connected layers.
    """

    def __init__(self, in_channels: int, size: int, channels: int) -> None:
        super().__init__("2fc", in_channels, size, channels=channels, class_rows=2, box_rows=1)
        self.quality_out = nn.Linear(channels, 1)

    def forward(self, x: Any) -> tuple[Any, ...]:
        """Class logits ``(R, 2)``, deltas ``(R, 4)`` and logits of the IoU ``(R, 1)``."""
        x = self.features(x)
        return self.cls_out(x), self.box_out(x), self.quality_out(x)
