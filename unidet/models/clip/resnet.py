"""CLIP's ResNet (Radford et al. 2021): three stem convolutions, pools that stride, attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.nn import initial
from unidet.models.layers.resnet import NormFactory, hold_norms, make_norm

#: Blocks in each of the four stages.
LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
#: Channels of one head of attention.
HEAD_WIDTH = 64


class CLIPBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions that all stride by 1; a mean over 2x2 pixels strides.

    Args:
        inplanes: channels of the input.
        planes: channels inside; the output has four times as many.
        stride: 1 or 2.
        norm: makes norm layers.
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int, norm: NormFactory) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = norm(planes * self.expansion)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else None
        self.downsample = None
        if stride > 1 or inplanes != planes * self.expansion:
            shortcut = nn.Conv2d(inplanes, planes * self.expansion, 1, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(planes * self.expansion))

    def forward(self, x: Any) -> Any:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = ops.relu(self.bn2(self.conv2(y)))
        if self.pool is not None:
            x, y = self.pool(x), self.pool(y)
        y = self.bn3(self.conv3(y))
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


def make_clip_stage(blocks: int, stage: int, width: int, norm: NormFactory) -> tuple[Any, int]:
    """One of the four stages as a ``Sequential`` of blocks.

    Args:
        blocks: how many.
        stage: 0 to 3.
        width: of the stem.
        norm: makes norm layers.

    Returns:
        The stage and the channels of its output.
    """
    planes = width << stage
    inplanes = width if stage == 0 else planes // 2 * CLIPBottleneck.expansion
    layers = []
    for i in range(blocks):
        layers.append(CLIPBottleneck(inplanes, planes, 2 if i == 0 and stage else 1, norm))
        inplanes = planes * CLIPBottleneck.expansion
    return nn.Sequential(*layers), inplanes


class CLIPResNet(nn.Module):
    """Feature extractor with OpenAI's parameter names; the input has stride 4 after the stem.

    Args:
        layers: blocks in each stage; three entries end with C4.
        width: of the stem's last convolution.
        norm: ``"batch"`` (the affine part trains) or ``"frozen"``.
        norm_eps: of the norm layers.
        norm_eval: batch norms always use their running statistics.
        frozen_stages: -1 trains everything, 0 freezes the stem, 1 the stem and layer1, ...
    """

    def __init__(
        self,
        layers: tuple[int, ...] = LAYERS[50],
        width: int = 64,
        *,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        norm_eval: bool = False,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        if not -1 <= frozen_stages <= len(layers):
            raise ValueError(
                f"Invalid value for `frozen_stages`. Expected -1 to {len(layers)}. "
                f"Received {frozen_stages}."
            )
        make = make_norm(norm, norm_eps)
        self.norm_eval = norm_eval
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = make(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = make(half)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn3 = make(width)
        self.pool = nn.AvgPool2d(2)
        channels = []
        for stage, blocks in enumerate(layers):
            part, count = make_clip_stage(blocks, stage, width, make)
            setattr(self, f"layer{stage + 1}", part)
            channels.append(count)
        #: Channels of the stages' outputs.
        self.channels = tuple(channels)
        stem = [self.conv1, self.bn1, self.conv2, self.bn2, self.conv3, self.bn3]
        frozen = [] if frozen_stages < 0 else [*stem, *self._stages()[:frozen_stages]]
        for part in frozen:
            if nn.parameters(part):  # a frozen norm has none
                nn.freeze(part)

    def _stages(self) -> list[Any]:
        return [getattr(self, f"layer{i + 1}") for i in range(len(self.channels))]

    def initial_values(self, draw: Any) -> dict[str, np.ndarray]:
        """Kaiming normal for convolutions (He et al. 2015)."""
        return {
            name: initial.kaiming_normal(draw(name), tuple(ops.shape(value)))
            for name, value in self.named_parameters()
            if len(ops.shape(value)) == 4
        }

    def train(self, mode: bool = True) -> Any:
        """As usual, except that with ``norm_eval`` batch norms stay in evaluation mode."""
        super().train(mode)
        if mode and self.norm_eval:
            hold_norms(self)
        return self

    def forward(self, images: Any) -> tuple[Any, ...]:
        """Maps of all stages, ``(N, C, H / stride, W / stride)`` with strides 4, 8, 16 (, 32)."""
        x = ops.relu(self.bn1(self.conv1(images)))
        x = ops.relu(self.bn2(self.conv2(x)))
        x = self.pool(ops.relu(self.bn3(self.conv3(x))))
        maps = []
        for stage in self._stages():
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class AttentionPool(nn.Module):
    """One vector of a map: multi-head attention whose only query is the mean over positions.

    Args:
        side: of the map, in positions.
        channels: of the map; heads are 64 channels wide.
        outputs: length of the vector.
    """

    def __init__(self, side: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.heads = max(channels // HEAD_WIDTH, 1)
        self.positional_embedding = nn.Parameter(np.zeros((side * side + 1, channels), np.float32))
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, outputs)

    def initial_values(self, draw: Any) -> dict[str, np.ndarray]:
        """Positions and projections from a normal of deviation ``channels ** -0.5``, as CLIP."""
        values = {}
        for name, value in self.named_parameters():
            shape = tuple(ops.shape(value))
            if len(shape) == 2:
                values[name] = initial.normal(draw(name), shape, shape[1] ** -0.5)
            else:
                values[name] = np.zeros(shape, np.float32)
        return values

    def forward(self, x: Any) -> Any:
        """``(N, C, side, side)`` to ``(N, outputs)``."""
        count, channels = ops.shape(x)[:2]
        tokens = ops.transpose(ops.reshape(x, (count, channels, -1)), (0, 2, 1))
        tokens = ops.concat([ops.mean(tokens, axis=1, keepdims=True), tokens], axis=1)
        tokens = tokens + ops.expand_dims(self.positional_embedding, 0)  # (N, 1 + HW, C)
        length, depth = ops.shape(tokens)[1], channels // self.heads

        def by_head(values: Any, length: int) -> Any:  # (N, L, C) to (N, heads, L, depth)
            values = ops.reshape(values, (count, length, self.heads, depth))
            return ops.transpose(values, (0, 2, 1, 3))

        first, _ = ops.split(tokens, (1, length - 1), axis=1)
        query = by_head(self.q_proj(first), 1)
        key = by_head(self.k_proj(tokens), length)
        value = by_head(self.v_proj(tokens), length)
        pooled = ops.scaled_dot_product_attention(query, key, value)  # (N, heads, 1, depth)
        return self.c_proj(ops.reshape(pooled, (count, channels)))
