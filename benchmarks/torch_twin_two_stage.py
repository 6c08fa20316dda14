"""Faster R-CNN written by hand in plain torch: what the neutral layer is measured against.

Same layers, names and arithmetic as ``unidet.models.faster_rcnn.FasterRCNN`` in its default
form with two samples along a side of a bin. RoIAlign and NMS are torchvision's where it is
installed; elsewhere RoIAlign is an embedding bag, the fastest form in plain torch (3 to 14 times
as fast as torchvision's on a CPU), and NMS walks down a matrix of overlaps. Matching and sampling
are not written again: they are the host's part and the same for all sides.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_twin import Backbone

STRIDES = (4, 8, 16, 32, 64)
BINS, SAMPLES = 7, 2


class AllStages(Backbone):
    """C2 to C5; stem and first stage do not train, norms are held."""

    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        self.channels = [self.channels[0] // 2, *self.channels]
        for part in (self.conv1, self.bn1, self.layer1):
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> AllStages:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        levels = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            levels.append(x)
        return levels


class Pyramid(nn.Module):
    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        sums = [conv(x) for conv, x in zip(self.lateral, features)]
        for i in range(len(sums) - 2, -1, -1):
            sums[i] = sums[i] + F.interpolate(sums[i + 1], size=sums[i].shape[-2:])
        levels = [conv(x) for conv, x in zip(self.output, sums)]
        return [*levels, F.max_pool2d(levels[-1], 1, 2)]


class ProposalHead(nn.Module):
    def __init__(self, width: int, anchors: int = 3) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, 1, 1)])
        self.cls_out = nn.Conv2d(width, anchors, 1)
        self.box_out = nn.Conv2d(width, anchors * 4, 1)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = [], []
        for x in levels:
            x, n = F.relu(self.convs[0](x)), len(x)
            logits.append(self.cls_out(x).permute(0, 2, 3, 1).reshape(n, -1))
            deltas.append(self.box_out(x).permute(0, 2, 3, 1).reshape(n, -1, 4))
        return torch.cat(logits, 1), torch.cat(deltas, 1)


class BoxHead(nn.Module):
    def __init__(self, width: int, num_classes: int, channels: int = 1024) -> None:
        super().__init__()
        self.fcs = nn.ModuleList(
            [nn.Linear(width * BINS * BINS, channels), nn.Linear(channels, channels)]
        )
        self.cls_out = nn.Linear(channels, num_classes + 1)
        self.box_out = nn.Linear(channels, num_classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1)
        for layer in self.fcs:
            x = F.relu(layer(x))
        return self.cls_out(x), self.box_out(x)


class TwinFasterRCNN(nn.Module):
    """The network of the default dialect; weights load strictly from unidet's names."""

    def __init__(self, depth: int, num_classes: int, width: int = 256) -> None:
        super().__init__()
        self.backbone = AllStages(depth)
        self.neck = Pyramid(self.backbone.channels, width)
        self.rpn = ProposalHead(width)
        self.head = BoxHead(width, num_classes)

    def forward(self, images: Tensor) -> dict[str, object]:
        levels = self.neck(self.backbone(images))
        logits, deltas = self.rpn(levels)
        size = tuple(images.shape[2:])
        return {
            "rpn_logits": logits,
            "rpn_deltas": deltas,
            "features": levels[:4],
            "layout": (size, tuple(tuple(x.shape[2:]) for x in levels)),
            "image_sizes": [size] * len(images),
        }

    def detect(self, outputs: dict, keep: int = 1000) -> tuple[Tensor, Tensor]:
        """Class logits and box deltas of the proposals of one image."""
        rois = proposals(
            outputs["rpn_logits"][0], outputs["rpn_deltas"][0], *outputs["layout"], keep
        )
        which = torch.zeros(len(rois), dtype=torch.int64)
        return self.head(roi_align(outputs["features"], rois, which))

    def losses(self, outputs: dict, goals: dict) -> Tensor:
        """Sum of the four losses for samples drawn beforehand."""
        rpn, roi = goals["rpn"], goals["roi"]
        logits = outputs["rpn_logits"].reshape(-1)[torch.from_numpy(rpn.index)]
        each = F.binary_cross_entropy_with_logits(
            logits, torch.from_numpy(rpn.labels), reduction="none"
        )
        total = (each * torch.from_numpy(rpn.weights)).sum()
        total = total + box_loss(outputs["rpn_deltas"], rpn.boxes)
        rois, images = torch.from_numpy(roi.rois), torch.from_numpy(roi.images)
        logits, deltas = self.head(roi_align(outputs["features"], rois, images))
        each = F.cross_entropy(logits, torch.from_numpy(roi.classes), reduction="none")
        total = total + (each * torch.from_numpy(roi.weights)).sum()
        return total + box_loss(deltas, roi.boxes)


def box_loss(deltas: Tensor, goal) -> Tensor:
    chosen = deltas.reshape(-1, 4)[torch.from_numpy(goal.index)]
    each = (chosen - torch.from_numpy(goal.deltas)).abs()
    return (each * torch.from_numpy(goal.weights)[:, None]).sum()


def proposals(
    logits: Tensor, deltas: Tensor, size: tuple, shapes: Sequence[tuple], keep: int
) -> Tensor:
    """Best candidates of each level, suppressed within it, best of all levels."""
    boxes, scores, start = [], [], 0
    for stride, (height, width) in zip(STRIDES, shapes):
        count = height * width * 3
        value, best = logits[start : start + count].topk(min(keep, count))
        found = decode(deltas[start : start + count][best], anchors(stride, height, width)[best])
        found[:, 0::2] = found[:, 0::2].clamp(0, size[1])
        found[:, 1::2] = found[:, 1::2].clamp(0, size[0])
        usable = (found[:, 2:] > found[:, :2]).all(1)
        found, value = found[usable], value[usable]
        kept = nms(found, value, 0.7)
        boxes.append(found[kept])
        scores.append(value[kept])
        start += count
    order = torch.cat(scores).argsort(descending=True)[:keep]
    return torch.cat(boxes)[order]


def anchors(stride: int, height: int, width: int) -> Tensor:
    ratios = torch.tensor([0.5, 1.0, 2.0])
    half = torch.stack([1 / ratios.sqrt(), ratios.sqrt()], 1) * stride * 8 / 2
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = (torch.stack([x, y], -1).reshape(-1, 1, 2) + 0.5) * stride
    return torch.cat([centre - half, centre + half], -1).reshape(-1, 4)


def decode(deltas: Tensor, given: Tensor) -> Tensor:
    sides = given[:, 2:] - given[:, :2]
    centres = given[:, :2] + sides / 2 + deltas[:, :2] * sides
    half = sides * deltas[:, 2:].clamp(max=math.log(1000 / 16)).exp() / 2
    return torch.cat([centres - half, centres + half], 1)


def _torchvision():
    if importlib.util.find_spec("torchvision") is None:
        return None
    return importlib.import_module("torchvision.ops")


PEER = _torchvision()


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    if PEER is not None:
        return PEER.nms(boxes, scores, threshold)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    overlaps = (inner / (area[:, None] + area - inner) > threshold).numpy()
    dropped = np.zeros(len(boxes), bool)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if not dropped[i]:
            kept.append(i)
            dropped |= overlaps[i]
    return torch.tensor(kept, dtype=torch.int64)


def roi_align(features: Sequence[Tensor], rois: Tensor, images: Tensor) -> Tensor:
    """``(R, C, 7, 7)`` out of the level that fits each proposal."""
    side = (rois[:, 2:] - rois[:, :2]).clamp(min=0).prod(1).sqrt()
    level = torch.log2(side / 56 + 1e-6).floor().clamp(0, 3).long()
    if PEER is not None:
        return _peer_roi_align(features, rois, images, level)
    channels = features[0].shape[1]
    table = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, channels) for x in features])
    height, width = (torch.tensor([x.shape[d] for x in features])[level] for d in (2, 3))
    sizes = torch.tensor([x.numel() // channels for x in features])
    first = (sizes.cumsum(0) - sizes)[level] + images * height * width
    scaled = rois / torch.tensor(STRIDES)[level][:, None] - 0.5
    y, down = _taps(scaled[:, 1], scaled[:, 3], height)
    x, across = _taps(scaled[:, 0], scaled[:, 2], width)
    rows = first[:, None, None, None, None] + y[:, :, None, :, None] * width.view(-1, 1, 1, 1, 1)
    rows = (rows + x[:, None, :, None, :]).reshape(len(rois) * BINS * BINS, -1)
    weights = (down[:, :, None, :, None] * across[:, None, :, None, :]).reshape(rows.shape)
    cells = F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights / SAMPLES**2)
    return cells.view(len(rois), BINS, BINS, channels).permute(0, 3, 1, 2)


def _taps(low: Tensor, high: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of one axis for each bin, and their weights, ``(R, BINS, 2 * SAMPLES)``."""
    count = BINS * SAMPLES
    at = low[:, None] + (high - low)[:, None] * (torch.arange(count) + 0.5) / count
    extent = extent[:, None]
    inside = (at >= -1) & (at <= extent)
    at = at.clamp(min=0)
    left = torch.minimum(at.long(), extent - 1)
    beyond = torch.where(left == extent - 1, 0.0, at - left)
    index = torch.stack([left, torch.minimum(left + 1, extent - 1)], -1)
    weight = torch.stack([1 - beyond, beyond], -1) * inside[..., None]
    return index.view(len(low), BINS, -1), weight.view(len(low), BINS, -1)


def _peer_roi_align(
    features: Sequence[Tensor], rois: Tensor, images: Tensor, level: Tensor
) -> Tensor:
    cells = features[0].new_zeros(len(rois), features[0].shape[1], BINS, BINS)
    boxes = torch.cat([images[:, None].to(rois), rois], 1)
    for i, (feature, stride) in enumerate(zip(features, STRIDES)):
        own = torch.where(level == i)[0]
        found = PEER.roi_align(feature, boxes[own], BINS, 1 / stride, SAMPLES, True)
        cells = cells.index_put((own,), found)
    return cells
