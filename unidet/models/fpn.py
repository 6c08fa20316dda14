"""Feature pyramid with two coarse levels (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unidet.backends import nn, ops


class FPN(nn.Module):
    """C3, C4, C5 to P3 ... P7.

    Args:
        in_channels: of C3, C4 and C5.
        channels: of every output.
        extra_source: P6 is computed from ``"c5"`` or from ``"p5"`` (torchvision v1).
        extra_relu: a ReLU between P6 and P7 (mmdetection has none); P6 itself is never rectified.
        upsample: ``"factor2"`` doubles the sides (they must then be even at each level, which
            padding to a multiple of 32 ensures); ``"size"`` takes the size of the lateral map.

    Raises:
        ValueError: an unknown option.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        extra_source: str = "c5",
        extra_relu: bool = True,
        upsample: str = "size",
    ) -> None:
        super().__init__()
        if extra_source not in ("c5", "p5"):
            raise ValueError(
                "Invalid value for `extra_source`. Expected 'c5' or 'p5'. "
                f"Received {extra_source!r}."
            )
        if upsample not in ("size", "factor2"):
            raise ValueError(
                "Invalid value for `upsample`. Expected 'size' or 'factor2'. "
                f"Received {upsample!r}."
            )
        self.extra_source = extra_source
        self.extra_relu = extra_relu
        self.upsample = upsample
        self.lateral = nn.ModuleList([nn.Conv2d(c, channels, 1) for c in in_channels])
        self.output = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels]
        )
        source = in_channels[-1] if extra_source == "c5" else channels
        self.extra = nn.ModuleList(
            [
                nn.Conv2d(source, channels, 3, stride=2, padding=1),
                nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            ]
        )

    def forward(self, features: Sequence[Any]) -> tuple[Any, ...]:
        """Pyramid levels, finest first.

        Args:
            features: C3, C4 and C5, ``(N, C, h, w)`` each.
        """
        merged = [lateral(x) for lateral, x in zip(self.lateral, features)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + self._upsampled(merged[i + 1], merged[i])
        levels = [output(x) for output, x in zip(self.output, merged)]
        p6 = self.extra[0](features[-1] if self.extra_source == "c5" else levels[-1])
        p7 = self.extra[1](ops.relu(p6) if self.extra_relu else p6)
        return (*levels, p6, p7)

    def _upsampled(self, coarse: Any, fine: Any) -> Any:
        size = ops.shape(fine)[2:]
        if self.upsample == "factor2":
            height, width = ops.shape(coarse)[2:]
            size = (2 * height, 2 * width)
        return ops.interpolate(coarse, size, mode="nearest")
