"""Feature pyramid (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unidet.backends import nn, ops
from unidet.files.shown import shown


class FPN(nn.Module):
    """C3, C4, C5 to P3 ... P7, or C2 ... C5 to P2 ... P6.

    Args:
        in_channels: of the stages that enter, finest first.
        channels: of every output.
        extra: coarse levels behind the last stage: ``"convs"``, two strided convolutions
            (RetinaNet), or ``"pool"``, one level that takes every second pixel (Faster R-CNN).
        extra_source: the first such convolution reads the last stage (``"c5"``) or the last output
            (``"p5"``, torchvision v1).
        extra_relu: a ReLU between the two (mmdetection has none); P6 itself is never rectified.
        upsample: ``"factor2"`` doubles the sides (they must then be even at each level, which
            padding to a multiple of 32 ensures); ``"size"`` takes the size of the lateral map.
        norm: None, or ``"batch"`` behind each convolution, which then has no bias (torchvision v2).
        norm_eps: of that norm.

    Raises:
        ValueError: an unknown option.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        extra: str = "convs",
        extra_source: str = "c5",
        extra_relu: bool = True,
        upsample: str = "size",
        norm: str | None = None,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("extra", extra, ("convs", "pool")),
            ("extra_source", extra_source, ("c5", "p5")),
            ("upsample", upsample, ("size", "factor2")),
            ("norm", norm, (None, "batch")),
        ):
            if value not in allowed:
                raise ValueError(
                    f"Invalid value for `{name}`. Expected {allowed[0]!r} or {allowed[1]!r}. "
                    f"Received {shown(value)}."
                )
        self.extra_source = extra_source
        self.extra_relu = extra_relu
        self.upsample = upsample
        bias = norm is None
        self.lateral = nn.ModuleList([nn.Conv2d(c, channels, 1, bias=bias) for c in in_channels])
        self.output = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=1, bias=bias) for _ in in_channels]
        )
        self.lateral_norm = self.output_norm = self.extra = None
        if norm is not None:
            norms = [nn.BatchNorm2d(channels, eps=norm_eps) for _ in range(2 * len(in_channels))]
            self.lateral_norm = nn.ModuleList(norms[::2])
            self.output_norm = nn.ModuleList(norms[1::2])
        if extra == "convs":
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
            features: as many as ``in_channels``, ``(N, C, h, w)`` each.
        """
        merged: list[Any] = _apply(self.lateral, self.lateral_norm, features)
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + self._upsampled(merged[i + 1], merged[i])
        levels = _apply(self.output, self.output_norm, merged)
        if self.extra is None:
            return (*levels, ops.max_pool2d(levels[-1], 1, 2))
        p6 = self.extra[0](features[-1] if self.extra_source == "c5" else levels[-1])
        p7 = self.extra[1](ops.relu(p6) if self.extra_relu else p6)
        return (*levels, p6, p7)

    def _upsampled(self, coarse: Any, fine: Any) -> Any:
        size = ops.shape(fine)[2:]
        if self.upsample == "factor2":
            height, width = ops.shape(coarse)[2:]
            size = (2 * height, 2 * width)
        return ops.interpolate(coarse, size, mode="nearest")


def _apply(convolutions: Any, norms: Any, features: Sequence[Any]) -> list[Any]:
    answers = [layer(x) for layer, x in zip(convolutions, features)]
    return answers if norms is None else [norm(x) for norm, x in zip(norms, answers)]
