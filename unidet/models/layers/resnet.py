"""ResNet (He et al. 2016) with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.nn import initial
from unidet.models.layers.initialization import convolution_shapes

#: Blocks in each of the four stages.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

NormFactory = Callable[[int], Any]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and 34)."""

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int,
        norm: NormFactory,
        stride_in_1x1: bool,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        wide = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, **wide)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, **wide)
        self.bn2 = norm(planes)
        self.downsample = _shortcut(inplanes, planes, stride, norm)

    def forward(self, x: Any) -> Any:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int,
        norm: NormFactory,
        stride_in_1x1: bool,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(inplanes, planes, 1, stride=first, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(
            planes, planes, 3, stride=second, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = norm(planes * self.expansion)
        self.downsample = _shortcut(inplanes, planes * self.expansion, stride, norm)

    def forward(self, x: Any) -> Any:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = ops.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


def make_norm(kind: str, eps: float) -> NormFactory:
    """Makes the norm layers of a network.

    Args:
        kind: ``"batch"`` (the affine part trains) or ``"frozen"`` (four constant vectors).
        eps: added to the variance.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in ("batch", "frozen"):
        raise ValueError(
            f"Invalid value for `norm`. Expected 'batch' or 'frozen'. Received {kind!r}."
        )
    layer = nn.BatchNorm2d if kind == "batch" else nn.FrozenBatchNorm2d
    return lambda channels: layer(channels, eps=eps)


def hold_norms(part: Any) -> None:
    """Lets the batch norms inside ``part`` use their statistics and learn no new ones."""
    for _, module in part.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(False)


def make_stage(
    depth: int,
    stage: int,
    norm: NormFactory,
    *,
    stride_in_1x1: bool = False,
    dilate: bool = False,
) -> tuple[Any, int]:
    """One of the four stages as a ``Sequential`` of blocks.

    Args:
        depth: of the ResNet.
        stage: 0 to 3.
        norm: makes norm layers.
        stride_in_1x1: see :class:`ResNet`.
        dilate: the stage does not stride; all its blocks but the first dilate by 2.

    Returns:
        The stage and the channels of its output.
    """
    block = BasicBlock if depth < 50 else Bottleneck
    planes = 64 << stage
    inplanes = 64 if stage == 0 else planes // 2 * block.expansion
    blocks = []
    for i in range(BLOCKS[depth][stage]):
        stride = 2 if i == 0 and stage > 0 and not dilate else 1
        more = {"dilation": 2} if dilate and i else {}
        blocks.append(block(inplanes, planes, stride, norm, stride_in_1x1, **more))
        inplanes = planes * block.expansion
    return nn.Sequential(*blocks), inplanes


def _shortcut(inplanes: int, planes: int, stride: int, norm: NormFactory) -> Any:
    if stride == 1 and inplanes == planes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride=stride, bias=False), norm(planes))


class ResNet(nn.Module):
    """Feature extractor.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: see :func:`make_norm`.
        norm_eps: of the norm layers.
        norm_eval: batch norm always uses its running statistics; its affine part still trains.
        stride_in_1x1: bottlenecks stride in their first convolution (MSRA, detectron2).
        frozen_stages: -1 trains everything, 0 freezes the stem, 1 the stem and layer1, and so on.
        stages: how many of the four stages there are (3: the extractor ends with C4).
        dilate_last: layer4 keeps the resolution of layer3 and dilates instead (DC5).

    Raises:
        ValueError: an unknown depth or norm.
    """

    def __init__(
        self,
        depth: int,
        *,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        norm_eval: bool = False,
        stride_in_1x1: bool = False,
        frozen_stages: int = -1,
        stages: int = 4,
        dilate_last: bool = False,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(
                f"Invalid value for `depth`. Expected one of {', '.join(map(str, BLOCKS))}. "
                f"Received {depth!r}."
            )
        if not 1 <= stages <= 4:
            raise ValueError(f"Invalid value for `stages`. Expected 1 to 4. Received {stages}.")
        if dilate_last and stages < 4:
            raise ValueError(
                "Invalid value for `dilate_last`. Expected False without the last stage. "
                "Received True."
            )
        if not -1 <= frozen_stages <= stages:
            raise ValueError(
                f"Invalid value for `frozen_stages`. Expected -1 to {stages}. "
                f"Received {frozen_stages}."
            )
        make = make_norm(norm, norm_eps)
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = make(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = []
        for stage in range(stages):
            dilate = dilate_last and stage == 3
            layer, width = make_stage(
                depth, stage, make, stride_in_1x1=stride_in_1x1, dilate=dilate
            )
            setattr(self, f"layer{stage + 1}", layer)
            channels.append(width)
        #: Channels of C2 to C5.
        self.channels = tuple(channels)
        for part in self._frozen_parts():
            nn.freeze(part)

    def _layers(self) -> list[Any]:
        return [getattr(self, f"layer{i + 1}") for i in range(len(self.channels))]

    def _frozen_parts(self) -> list[Any]:
        if self.frozen_stages < 0:
            return []
        return [self.conv1, self.bn1, *self._layers()[: self.frozen_stages]]

    def train(self, mode: bool = True) -> Any:
        """As usual, except that norm layers which must not learn statistics stay as they are."""
        super().train(mode)
        held = [self] if self.norm_eval else self._frozen_parts()
        for part in held if mode else ():
            hold_norms(part)
        return self

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """He et al. 2015 by outputs, as torchvision has it."""
        shapes = convolution_shapes(self)
        return {name: initial.kaiming_normal(draw(name), shape) for name, shape in shapes.items()}

    def stem(self, x: Any) -> Any:
        """``(N, 3, H, W)`` to ``(N, 64, H / 2, W / 2)``, before pooling."""
        return ops.relu(self.bn1(self.conv1(x)))

    def forward(self, images: Any) -> tuple[Any, ...]:
        """C2 to C5 (or fewer) of ``(N, 3, H, W)``, strides 4 to 32."""
        x = self.maxpool(self.stem(images))
        features = []
        for layer in self._layers():
            x = layer(x)
            features.append(x)
        return tuple(features)
