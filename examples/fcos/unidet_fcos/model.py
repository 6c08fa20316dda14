"""FCOS (Tian et al. 2019): each point of a feature map predicts the sides of the box around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from unidet.backends import kernels, nn, ops
from unidet.backends.nn import initial
from unidet.backends.parallel import batch_split
from unidet.losses import iou_loss, sigmoid_focal_loss
from unidet.models import DetectionModel
from unidet.models.arguments import SETTING, TRAINING, VISIBLE, Arguments, argument
from unidet.models.base import require_one_each
from unidet.models.boxes.geometry import clip_boxes
from unidet.models.boxes.scores import sigmoid
from unidet.models.boxes.targets import check_labels, padded
from unidet.models.layers.fpn import FPN
from unidet.models.layers.resnet import ResNet
from unidet.models.retinanet.head import RetinaNetHead
from unidet.structures import Batch, Detections, Targets

STRIDES = (8, 16, 32, 64, 128)
#: Longest side, in pixels, that each level predicts; the level before ends where it begins.
RANGES = (64.0, 128.0, 256.0, 512.0, math.inf)
OUTPUTS = ("cls_logits", "box_sides", "centerness_logits")


@dataclass(frozen=True)
class FCOSConfig(Arguments):
    """Arguments of :class:`FCOS`."""

    num_classes: int = argument(80, "number of labels", least=1, kind=VISIBLE)
    class_names: tuple[str, ...] | None = argument(None, "name of each label", kind=VISIBLE)
    depth: int = argument(50, "layers of the ResNet", choices=(18, 34, 50, 101, 152), kind=VISIBLE)
    norm: str = argument("batch", "backbone's norm", choices=("batch", "frozen"), kind=TRAINING)
    stride_in_1x1: bool = argument(False, "bottlenecks have their stride in the first convolution")
    frozen_stages: int = argument(-1, "stages that do not train; -1: all train", kind=TRAINING)
    channels: int = argument(256, "channels of pyramid and head", least=1, kind=VISIBLE)
    groups: int = argument(32, "groups of the group norm in the head", least=1)
    score_threshold: float = argument(0.05, "lowest score", least=0, most=1, kind=SETTING)
    pre_nms: int = argument(1000, "candidates of each level", least=1, kind=SETTING)
    nms_iou: float = argument(0.5, "IoU above which the lower score is dropped", kind=SETTING)
    max_detections: int = argument(100, "most detections of an image", least=1, kind=SETTING)
    preprocess: Mapping[str, Any] = argument(dict, "arguments of `Preprocess`")


class FCOSHead(RetinaNetHead):
    """RetinaNet's towers with group norm, a centerness, and one learned scale for each level."""

    def __init__(self, channels: int, groups: int, num_classes: int) -> None:
        super().__init__(channels, 1, num_classes, channels=channels, norm="group", groups=groups)
        self.centerness_out = nn.Conv2d(channels, 1, 3, padding=1)
        for level in range(len(STRIDES)):
            setattr(self, f"scale_{level}", nn.Parameter(np.array(1, np.float32)))

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """Narrow normal weights; an untrained network gives each class a probability of 0.01."""
        shapes = {name: tuple(ops.shape(value)) for name, value in self.named_parameters()}
        weights = {n: initial.normal(draw(n), s, 0.01) for n, s in shapes.items() if len(s) == 4}
        biases = {n: np.zeros(s, np.float32) for n, s in shapes.items() if n.endswith("_out.bias")}
        return {**weights, **biases, "cls_out.bias": biases["cls_out.bias"] - math.log(99)}

    def forward(self, levels: Sequence[Any]) -> tuple[Any, ...]:
        """Class logits ``(N, P, K)``, sides ``(N, P, 4)`` in pixels, centerness ``(N, P, 1)``."""
        columns: list[list[Any]] = [[], [], []]
        for index, level in enumerate(levels):
            cls, box = level, level
            for cls_layer, box_layer in zip(self.cls_tower, self.box_tower):
                cls, box = cls_layer(cls), box_layer(box)
            sides = ops.exp(self.box_out(box) * getattr(self, f"scale_{index}"))
            for column, x in zip(columns, (self.cls_out(cls), sides, self.centerness_out(cls))):
                count, depth = ops.shape(x)[:2]
                column.append(ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (count, -1, depth)))
        return tuple(ops.concat(column, axis=1) for column in columns)


class FCOSTargets(NamedTuple):
    """Arrays that enter the losses; what the losses are divided by is part of the weights."""

    classes: np.ndarray  # (N, P) int32, -1 for background
    class_weights: np.ndarray  # (N, P, 1), 0 where a crowd lies
    rows: np.ndarray  # (M,) positive points, rows of N * P, padded
    boxes: np.ndarray  # (M, 4) corners
    points: np.ndarray  # (M, 2) centres
    centerness: np.ndarray  # (M,)
    centerness_weights: np.ndarray  # (M,), 0 for the padding
    box_weights: np.ndarray  # (M, 1)


class FCOS(DetectionModel):
    """Detector without anchors, made from an :class:`FCOSConfig` or its arguments."""

    config_class = FCOSConfig
    named_arguments = ("depth",)
    settings: FCOSConfig

    def __init__(self, config: FCOSConfig) -> None:
        super().__init__(config)
        self.model_name = f"fcos_r{config.depth}_fpn"
        self.backbone = ResNet(
            config.depth,
            norm=config.norm,
            stride_in_1x1=config.stride_in_1x1,
            frozen_stages=config.frozen_stages,
        )
        self.neck = FPN(self.backbone.channels[1:], config.channels, extra_source="p5")
        self.head = FCOSHead(config.channels, config.groups, config.num_classes)

    def forward(self, images: Any) -> dict[str, Any]:
        """Outputs of the head for ``(N, 3, H, W)``, and ``layout``, the size of each level."""
        levels = self.neck(self.backbone(images)[1:])
        return {
            **dict(zip(OUTPUTS, self.head(levels))),
            "layout": [tuple(int(side) for side in ops.shape(x)[2:]) for x in levels],
        }

    def losses(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """``loss_cls`` (focal), ``loss_box`` (IoU, weighted by centerness), ``loss_centerness``."""
        logits = outputs["cls_logits"]
        require_one_each(targets, ops.shape(logits)[0], "targets")
        goal = self.training_targets(outputs, targets)
        tensors = FCOSTargets(*(ops.asarray(array, like=logits) for array in goal))
        focal = sigmoid_focal_loss(logits, tensors.classes)
        sides = ops.take(ops.reshape(outputs["box_sides"], (-1, 4)), goal.rows, axis=0)
        each = iou_loss(_decoded(sides, tensors.points), tensors.boxes)
        quality = ops.take(ops.reshape(outputs["centerness_logits"], (-1,)), goal.rows, axis=0)
        off = ops.binary_cross_entropy_with_logits(quality, tensors.centerness)
        return {
            "loss_cls": ops.sum(focal * tensors.class_weights),
            "loss_box": ops.sum(each * tensors.box_weights),
            "loss_centerness": ops.sum(off * tensors.centerness_weights),
        }

    def training_targets(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> FCOSTargets:
        """Targets of each point: the smallest box around it that suits its level."""
        points, low, high = self._points(outputs["layout"])
        classes = np.full((len(targets), len(points)), -1, np.int32)
        weights = np.ones(classes.shape, np.float32)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for i, target in enumerate(targets):
            check_labels(target, self.settings.num_classes, None)
            crowd = target.boxes_xyxy[target.crowd | target.ignore]
            weights[i, _sides(points, crowd).min(axis=2, initial=np.inf).max(1, initial=-1) > 0] = 0
            known = target.learnable()
            sides = _sides(points, known.boxes_xyxy)  # (P, n, 4)
            longest = sides.max(axis=2, initial=-1)
            fits = (sides.min(axis=2, initial=np.inf) > 0) & (longest > low[:, None])
            area = np.prod(known.boxes_xyxy[:, 2:] - known.boxes_xyxy[:, :2], axis=1)
            areas = np.where(fits & (longest <= high[:, None]), area, np.inf)
            positive = np.flatnonzero(areas.min(axis=1, initial=np.inf) < np.inf)
            owner = areas[positive].argmin(axis=1) if len(positive) else positive
            classes[i, positive] = known.labels[owner]
            weights[i, positive] = 1
            found.append((positive, known.boxes_xyxy[owner].reshape(-1, 4)))
        index = np.concatenate([rows + i * len(points) for i, (rows, _) in enumerate(found)])
        boxes = np.concatenate([boxes for _, boxes in found]).astype(np.float32)
        centres = points[index % len(points)]
        low, high = centres - boxes[:, :2], boxes[:, 2:] - centres
        quality = np.sqrt(np.prod(np.minimum(low, high) / np.maximum(low, high), axis=1))
        # Divided by the positive points, and by their centerness, of the whole batch.
        share = np.float32(1 / batch_split.mean_count("points", len(index), least=1))
        total = batch_split.mean_count("centerness", float(quality.sum()), least=1e-6)
        return FCOSTargets(
            classes,
            weights[..., None] * share,
            padded(index.astype(np.int64)),
            padded(boxes, np.array([0, 0, 1, 1], np.float32)),
            padded(centres),
            padded(quality.astype(np.float32)),
            padded(np.full(len(index), share, np.float32)),
            padded((quality / total).astype(np.float32))[:, None],
        )

    def predict(self, outputs: dict[str, Any], batch: Batch) -> list[Detections]:
        """Detections by the class probability times the centerness."""
        c = self.settings
        points, _, _ = self._points(outputs["layout"])
        borders = np.cumsum([0, *(h * w for h, w in outputs["layout"])])
        arrays = [ops.to_numpy(outputs[name]) for name in OUTPUTS]
        found = []
        for i, (logits, sides, quality) in enumerate(zip(*arrays)):
            boxes, scores, labels = [], [], []
            for start, stop in pairwise(borders):
                own = sigmoid(logits[start:stop])
                rows, columns = np.nonzero(own > c.score_threshold)
                best = np.argsort(-own[rows, columns], kind="stable")[: c.pre_nms]
                rows, columns = rows[best], columns[best]
                labels.append(columns)
                scores.append(own[rows, columns] * sigmoid(quality[start:stop][rows, 0]))
                boxes.append(_decoded(sides[start:stop][rows], points[start:stop][rows]))
            box = clip_boxes(np.concatenate(boxes), *batch.image_sizes[i]).astype(np.float32)
            score, label = np.concatenate(scores), np.concatenate(labels).astype(np.int64)
            kept = kernels.batched_nms(box, score, label, c.nms_iou)[: c.max_detections]
            scale = np.array([*batch.scales[i][::-1]] * 2, np.float32)
            found.append(Detections(box[kept] / scale, score[kept], label[kept], self.class_names))
        return found

    def _points(self, layout: Sequence[tuple[int, int]]) -> tuple[np.ndarray, ...]:
        """Centres ``(P, 2)`` of all cells in pixels; shortest and longest side of their boxes."""
        points, low, high = [], [], []
        for (height, width), stride, start, end in zip(layout, STRIDES, (-1.0, *RANGES), RANGES):
            y, x = np.mgrid[0:height, 0:width]
            points.append((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride)
            low.append(np.full(height * width, start))
            high.append(np.full(height * width, end))
        return np.concatenate(points).astype(np.float32), np.concatenate(low), np.concatenate(high)


def _sides(points: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """``(P, n, 4)``: how far each point lies inside each side of each box, in pixels."""
    low = points[:, None] - boxes_xyxy[None, :, :2]
    return np.concatenate([low, boxes_xyxy[None, :, 2:] - points[:, None]], axis=2)


def _decoded(sides: Any, points: Any) -> Any:
    """Corners of boxes from their four sides and the points inside; tensors or arrays."""
    low, high = points - sides[:, :2], points + sides[:, 2:]
    return (
        np.concatenate([low, high], 1)
        if isinstance(low, np.ndarray)
        else ops.concat([low, high], 1)
    )
