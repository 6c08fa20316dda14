"""The two towers of RetinaNet (Lin et al. 2017, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from unidet.backends import nn, ops


class ConvUnit(nn.Module):
    """3x3 convolution, group norm if asked for, ReLU."""

    def __init__(self, in_channels: int, channels: int, norm: str | None, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=norm is None)
        self.norm = nn.GroupNorm(groups, channels) if norm == "group" else None

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        return ops.relu(x if self.norm is None else self.norm(x))


class RetinaNetHead(nn.Module):
    """Class logits and box deltas of every anchor, the same weights on all levels.

    Output channels are ordered anchor by anchor: ``anchor * num_classes + class`` and
    ``anchor * 4 + delta``.

    Args:
        in_channels: of the pyramid.
        num_anchors: in one cell.
        num_classes: outputs of each anchor.
        channels: width of the towers.
        depth: convolutions in each tower.
        norm: ``None`` or ``"group"``, which also drops the biases of the tower.
        groups: of the norm.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        *,
        channels: int = 256,
        depth: int = 4,
        norm: str | None = None,
        groups: int = 32,
    ) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(
                f"Invalid value for `head_depth`. Expected 0 or more. Received {depth}."
            )
        if norm == "group" and channels % groups:
            raise ValueError(
                f"Invalid value for `head_groups`. Expected a divisor of {channels} channels. "
                f"Received {groups}."
            )
        widths = [in_channels] + [channels] * depth

        def tower() -> Any:
            units = [ConvUnit(a, b, norm, groups) for a, b in pairwise(widths)]
            return nn.ModuleList(units)

        self.num_classes = num_classes
        self.cls_tower = tower()
        self.cls_out = nn.Conv2d(widths[-1], num_anchors * num_classes, 3, padding=1)
        self.box_tower = tower()
        self.box_out = nn.Conv2d(widths[-1], num_anchors * 4, 3, padding=1)

    def forward(self, levels: Sequence[Any]) -> tuple[Any, ...]:
        """Logits ``(N, A, K)`` and deltas ``(N, A, 4)``, levels one after the other."""
        logits, deltas = [], []
        for level in levels:
            x = y = level
            for unit in self.cls_tower:
                x = unit(x)
            for unit in self.box_tower:
                y = unit(y)
            logits.append(_by_anchor(self.cls_out(x), self.num_classes))
            deltas.append(_by_anchor(self.box_out(y), 4))
        return ops.concat(logits, axis=1), ops.concat(deltas, axis=1)


def _by_anchor(x: Any, depth: int) -> Any:
    """``(N, k * depth, h, w)`` to ``(N, h * w * k, depth)``."""
    count = ops.shape(x)[0]
    return ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (count, -1, depth))
