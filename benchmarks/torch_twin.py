"""RetinaNet written by hand in plain torch: what the neutral layer is measured against.

Same layers, names and arithmetic as ``unidet.models.retinanet.RetinaNet``, no `unidet` code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class Basic(nn.Module):
    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inplanes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = _shortcut(inplanes, planes * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inplanes: int, planes: int, stride: int) -> nn.Module | None:
    if stride == 1 and inplanes == planes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))


class Backbone(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        block = Basic if depth < 50 else Bottleneck
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inplanes = 64
        for i, count in enumerate(BLOCKS[depth]):
            planes = 64 * 2**i
            stages = []
            for b in range(count):
                stages.append(block(inplanes, planes, 2 if b == 0 and i else 1))
                inplanes = planes * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*stages))
        self.channels = [128 * block.expansion, 256 * block.expansion, 512 * block.expansion]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c3, c4, self.layer4(c4)]


class Pyramid(nn.Module):
    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in channels)
        self.extra = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(2))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        sums = [conv(x) for conv, x in zip(self.lateral, features)]
        for i in (1, 0):
            sums[i] = sums[i] + F.interpolate(sums[i + 1], size=sums[i].shape[-2:])
        levels = [conv(x) for conv, x in zip(self.output, sums)]
        p6 = self.extra[0](levels[-1])
        return [*levels, p6, self.extra[1](F.relu(p6))]


class Unit(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.GroupNorm(groups, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Head(nn.Module):
    def __init__(self, width: int, num_classes: int, groups: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.cls_tower = nn.ModuleList(Unit(width, groups) for _ in range(4))
        self.cls_out = nn.Conv2d(width, 9 * num_classes, 3, 1, 1)
        self.box_tower = nn.ModuleList(Unit(width, groups) for _ in range(4))
        self.box_out = nn.Conv2d(width, 36, 3, 1, 1)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = [], []
        for level in levels:
            x = y = level
            for unit in self.cls_tower:
                x = unit(x)
            for unit in self.box_tower:
                y = unit(y)
            n = level.shape[0]
            logits.append(self.cls_out(x).permute(0, 2, 3, 1).reshape(n, -1, self.num_classes))
            deltas.append(self.box_out(y).permute(0, 2, 3, 1).reshape(n, -1, 4))
        return torch.cat(logits, 1), torch.cat(deltas, 1)


class TwinRetinaNet(nn.Module):
    """The network of the default dialect; weights load strictly from unidet's names."""

    def __init__(self, depth: int, num_classes: int, width: int = 256, groups: int = 32) -> None:
        super().__init__()
        self.backbone = Backbone(depth)
        self.neck = Pyramid(self.backbone.channels, width)
        self.head = Head(width, num_classes, groups)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.neck(self.backbone(images)))


def giou_loss(p: Tensor, g: Tensor) -> Tensor:
    low, high = torch.maximum(p[:, :2], g[:, :2]), torch.minimum(p[:, 2:], g[:, 2:])
    inner = (high - low).clamp(min=0).prod(1)
    outer = (torch.maximum(p[:, 2:], g[:, 2:]) - torch.minimum(p[:, :2], g[:, :2])).prod(1)
    union = (p[:, 2:] - p[:, :2]).prod(1) + (g[:, 2:] - g[:, :2]).prod(1) - inner
    return 1 - inner / (union + 1e-7) + (outer - union) / (outer + 1e-7)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2 + deltas[:, :2] * sides
    half = sides * deltas[:, 2:].clamp(max=4.135166556742356).exp() / 2
    return torch.cat([centres - half, centres + half], 1)


def loss(logits: Tensor, deltas: Tensor, goal) -> Tensor:
    """Focal loss plus GIoU for targets worked out beforehand (``RetinaNetTargets``)."""
    classes = torch.from_numpy(goal.classes)
    y = (classes[..., None] == torch.arange(logits.shape[-1])).float()
    p = logits.sigmoid()
    bce = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    focal = bce * (1 - (p * y + (1 - p) * (1 - y))) ** 2 * (0.25 * y + 0.75 * (1 - y))
    chosen = deltas.reshape(-1, 4)[torch.from_numpy(goal.positives)]
    boxes = giou_loss(decode(chosen, torch.from_numpy(goal.anchors)), torch.from_numpy(goal.boxes))
    return (focal * torch.from_numpy(goal.class_weights)[..., None]).sum() + (
        boxes * torch.from_numpy(goal.box_weights)
    ).sum()
