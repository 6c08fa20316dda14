"""Region proposal network: says at every anchor whether an object is there (Ren et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unidet.backends import nn, ops


class RPNHead(nn.Module):
    """Objectness and box deltas of every anchor, the same weights on all levels.

    Output channels are ordered anchor by anchor: ``anchor`` and ``anchor * 4 + delta``.

    Args:
        channels: of every level, and of the convolutions.
        num_anchors: in one cell.
        convs: 3x3 convolutions before the two outputs.
    """

    def __init__(self, channels: int, num_anchors: int, convs: int = 1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs)]
        )
        self.cls_out = nn.Conv2d(channels, num_anchors, 1)
        self.box_out = nn.Conv2d(channels, num_anchors * 4, 1)

    def forward(self, levels: Sequence[Any]) -> tuple[Any, Any]:
        """Logits ``(N, A)`` and deltas ``(N, A, 4)``, levels one after the other."""
        logits, deltas = [], []
        for x in levels:
            for conv in self.convs:
                x = ops.relu(conv(x))
            logits.append(_by_anchor(self.cls_out(x), ()))
            deltas.append(_by_anchor(self.box_out(x), (4,)))
        return ops.concat(logits, axis=1), ops.concat(deltas, axis=1)


def _by_anchor(x: Any, depth: tuple[int, ...]) -> Any:
    """``(N, k * depth, h, w)`` to ``(N, h * w * k, *depth)``."""
    count = ops.shape(x)[0]
    return ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (count, -1, *depth))
