"""DETR's set loss: match, then classify and place what was matched (Carion et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.backends.parallel import batch_split
from unidet.losses import BOX_LOSSES, l1_loss
from unidet.models.boxes.geometry import to_centres
from unidet.models.boxes.scores import softmax
from unidet.models.boxes.targets import check_labels
from unidet.models.detr.config import DETRConfig
from unidet.models.detr.matcher import HungarianMatcher
from unidet.structures import Targets


@dataclass(frozen=True)
class SetTargets:
    """Targets of the queries of all decoder layers.

    Attributes:
        classes: ``(L, N * Q)`` int64; without an object, the last class.
        weights: ``(L, N * Q)`` float32, adding up to 1 in each layer.
        index: ``(L, m)`` int64, matched queries among all ``L * N * Q``.
        boxes_cxcywh: ``(L * m, 4)`` float32, their objects.
        sides: ``(L * m, 4)`` float32, width and height of their images, twice.
        objects: how many there are in the batch, 1 at least; where the batch is computed in parts,
            the mean over them.
    """

    classes: np.ndarray
    weights: np.ndarray
    index: np.ndarray
    boxes_cxcywh: np.ndarray
    sides: np.ndarray
    objects: float


class SetCriterion:
    """Losses of DETR.

    Args:
        settings: classes, costs, weights and the loss of boxes.
    """

    def __init__(self, settings: DETRConfig) -> None:
        self.settings = c = settings
        self.matcher = HungarianMatcher(
            c.cost_class, c.cost_bbox, c.cost_giou, measure=c.match_measure
        )
        options: dict[str, Any] = {"eps": c.box_loss_eps}
        if c.box_loss == "ciou":
            options["gate"] = c.ciou_gate
        self._overlap_loss = BOX_LOSSES[c.box_loss]
        self._options = options

    def objects(
        self, targets: Sequence[Targets], image_sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Labels ``(n,)`` and normalised boxes ``(n, 4)``, centre form, of what is learnt.

        Crowds, ignored objects and boxes without area are left out, as by the peers.

        Raises:
            ValueError: a label that the model does not have, or an image without pixels.
        """
        found = []
        for target, size in zip(targets, image_sizes):
            check_labels(target, self.settings.num_classes, None)
            if min(size) < 1:
                raise ValueError(
                    "Invalid value for `image_sizes`. Expected sides of 1 pixel or more. "
                    f"Received {tuple(size)}: an image that is padding alone."
                )
            target = target.learnable()
            sides = target.boxes_xyxy[:, 2:] - target.boxes_xyxy[:, :2]
            keep = (sides > 0).all(axis=1)
            boxes = to_centres(target.boxes_xyxy[keep]) / _sides(size)
            found.append((target.labels[keep], boxes.astype(np.float32)))
        return found

    def assign(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> SetTargets:
        """Targets of every query: the part of :meth:`losses` on the host."""
        c = self.settings
        sizes = outputs["image_sizes"]
        objects = self.objects(targets, sizes)
        probabilities = softmax(ops.to_numpy(outputs["cls_logits"]))
        boxes = ops.to_numpy(outputs["boxes_cxcywh"])
        layers, images, queries = boxes.shape[:3]
        classes = np.full((layers, images, queries), c.num_classes, np.int64)
        index, wanted, sides = [], [], []
        for layer in range(layers):
            for image, (labels, boxes_of_image) in enumerate(objects):
                predicted = probabilities[layer, image], boxes[layer, image]
                query, target_index = self.matcher(*predicted, labels, boxes_of_image)
                classes[layer, image, query] = labels[target_index]
                index.append((layer * images + image) * queries + query)
                wanted.append(boxes_of_image[target_index])
                sides.append(np.tile(_sides(sizes[image]), (len(target_index), 1)))
        weights = np.where(classes == c.num_classes, np.float32(c.eos_coef), np.float32(1))
        weight, count = self.count([len(labels) for labels, _ in objects], queries)
        return SetTargets(
            classes.reshape(layers, -1),
            weights.reshape(layers, -1) / np.float32(weight),
            np.concatenate(index).reshape(layers, -1),
            np.concatenate(wanted),
            np.concatenate(sides),
            count,
        )

    def count(self, objects: Sequence[int], queries: int) -> tuple[float, float]:
        """What the losses are divided by: the weight of all queries of a layer, and the objects.

        Args:
            objects: how many each image has.
            queries: how many each image is asked.
        """
        matched = sum(min(one, queries) for one in objects)
        missed = len(objects) * queries - matched
        weight = matched + missed * float(np.float32(self.settings.eos_coef))
        return batch_split.mean_count("queries", weight), batch_split.mean_count(
            "objects", sum(objects), least=1
        )

    def losses(self, outputs: dict[str, Any], goal: SetTargets) -> dict[str, Any]:
        """Weighted terms, to be added up: those of the last layer, then of each earlier one."""
        c = self.settings
        logits = outputs["cls_logits"]
        layers, classes = len(goal.classes), ops.shape(logits)[-1]
        each = ops.cross_entropy(ops.reshape(logits, (-1, classes)), goal.classes.reshape(-1))
        weights = ops.asarray(goal.weights * np.float32(c.weight_ce), like=logits)
        terms = {
            "loss_ce": ops.sum(ops.reshape(each, (layers, -1)) * weights, axis=1),
            **self._box_terms(outputs["boxes_cxcywh"], goal),
        }
        split = {name: ops.split(value, (1,) * layers) for name, value in terms.items()}
        losses = {name: ops.sum(parts[-1]) for name, parts in split.items()}
        for layer in range(layers - 1):
            losses |= {f"{name}_{layer}": ops.sum(parts[layer]) for name, parts in split.items()}
        return losses

    def _box_terms(self, boxes: Any, goal: SetTargets) -> dict[str, Any]:
        """``(L,)`` each."""
        c = self.settings
        overlap = f"loss_{c.box_loss}"
        layers = len(goal.index)
        if not goal.index.size:
            # Without objects there is nothing to place, yet every weight has a gradient.
            nothing = ops.sum(ops.reshape(boxes, (layers, -1)), axis=1) * 0.0
            return {"loss_bbox": nothing, overlap: nothing}
        chosen = ops.take(ops.reshape(boxes, (-1, 4)), goal.index.reshape(-1), axis=0)
        wanted = ops.asarray(goal.boxes_cxcywh, like=boxes)
        distance = ops.sum(l1_loss(chosen, wanted), axis=1)
        corners, goals = _corners(chosen), _corners(wanted)
        if c.box_loss_space == "pixels":
            sides = ops.asarray(goal.sides, like=boxes)
            corners, goals = corners * sides, goals * sides
        apart = self._overlap_loss(corners, goals, **self._options)
        return {
            name: ops.sum(ops.reshape(value, (layers, -1)), axis=1) * (weight / goal.objects)
            for name, value, weight in (
                ("loss_bbox", distance, c.weight_bbox),
                (overlap, apart, c.weight_giou),
            )
        }

    def measures(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, float]:
        """What is watched and not trained on, of the last layer.

        Returns:
            ``cardinality_error``: by how many the queries that see an object miss the number of
            objects, mean over the images. ``class_error``: share of the matched queries that
            name another class, in percent; 0 without objects.
        """
        last = {**outputs, **{key: _last(outputs[key]) for key in ("cls_logits", "boxes_cxcywh")}}
        goal = self.assign(last, targets)
        named = ops.to_numpy(last["cls_logits"])[0].argmax(axis=-1)  # (N, Q)
        none = self.settings.num_classes
        counts = [len(labels) for labels, _ in self.objects(targets, outputs["image_sizes"])]
        misses = np.abs((named != none).sum(axis=1) - np.array(counts))
        matched = goal.index.reshape(-1)
        wrong = named.reshape(-1)[matched] != goal.classes.reshape(-1)[matched]
        return {
            "cardinality_error": float(misses.mean()),
            "class_error": 100 * float(wrong.mean()) if len(matched) else 0.0,
        }


def _sides(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.array([width, height, width, height], np.float32)


def _last(stacked: Any) -> Any:
    layers = ops.shape(stacked)[0]
    return ops.split(stacked, (layers - 1, 1), axis=0)[1] if layers > 1 else stacked


def _corners(boxes_cxcywh: Any) -> Any:
    """Centre form to corner form, ``(m, 4)``."""
    centres, sides = ops.split(boxes_cxcywh, (2, 2), axis=1)
    return ops.concat([centres - sides / 2, centres + sides / 2], axis=1)
