"""From the raw outputs of a one-stage detector to detections, on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import kernels, ops
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.geometry import clip_boxes
from unidet.models.boxes.scores import sigmoid
from unidet.structures import Detections


@dataclass(frozen=True)
class PostProcess:
    """Threshold, best candidates of each level, decoding, NMS by class, cut.

    Attributes:
        coder: decodes boxes.
        score_threshold: a detection scores more than this.
        pre_nms: candidates kept for each level, or None for all.
        nms_iou: IoU above which the lower score of one class is dropped.
        max_detections: kept for each image, or None for all.
        clip: ``"before_nms"``, ``"after_nms"`` (then boxes without area are dropped) or
            ``"one_sided"``.
    """

    coder: BoxCoder
    score_threshold: float = 0.05
    pre_nms: int | None = 1000
    nms_iou: float = 0.5
    max_detections: int | None = 100
    clip: str = "before_nms"

    def __call__(
        self,
        logits: np.ndarray,
        deltas: np.ndarray,
        anchors: Sequence[np.ndarray],
        *,
        image_size: tuple[int, int],
        padded_size: tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
        class_names: tuple[str, ...] | None = None,
    ) -> Detections:
        """Detections of one image by falling score.

        Args:
            logits: ``(A, K)`` float32, levels one after the other.
            deltas: ``(A, 4)`` float32.
            anchors: ``(A_l, 4)`` float32 of each level, in pixels of the input.
            image_size: ``(height, width)`` of the input before padding.
            padded_size: ``(height, width)`` of the input.
            scale: ``(sy, sx)``, size of the input over size of the original.
            class_names: names of the K classes.
        """
        parts = []
        start = 0
        for level in anchors:
            stop = start + len(level)
            parts.append(self._candidates(logits[start:stop], deltas[start:stop], level))
            start = stop
        boxes, values, labels = (np.concatenate(column) for column in zip(*parts))
        if self.clip == "before_nms":
            boxes = clip_boxes(boxes, *image_size)
        elif self.clip == "one_sided":
            boxes = clip_boxes(boxes, *padded_size, one_sided=True)
        scores = sigmoid(values)
        kept = kernels.batched_nms(boxes, scores, labels, self.nms_iou)[: self.max_detections]
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        if self.clip == "after_nms":
            boxes = clip_boxes(boxes, *image_size)
            solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            boxes, scores, labels = boxes[solid], scores[solid], labels[solid]
        sy, sx = scale
        boxes = (boxes / np.array([sx, sy, sx, sy])).astype(np.float32)
        return Detections(boxes, scores, labels.astype(np.int64), class_names)

    def _candidates(
        self, logits: np.ndarray, deltas: np.ndarray, anchors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes ``(n, 4)``, logits ``(n,)`` and labels ``(n,)`` of one level."""
        flat = logits.reshape(-1)
        index = np.flatnonzero(flat > _logit(self.score_threshold))
        if self.pre_nms is not None and len(index) > self.pre_nms:
            # Stable, so that ties go to the lower index on every machine.
            order = np.argsort(-flat[index], kind="stable")[: self.pre_nms]
            index = index[order]
        rows, labels = np.divmod(index, logits.shape[1])
        boxes = self.coder.decode(deltas[rows], anchors[rows])
        return boxes, flat[index], labels


def worth_copying(
    logits: Any, deltas: Any, anchors: Sequence[np.ndarray], score_threshold: float
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Host copies of the anchors of one image that score above the threshold in some class.

    A GPU finds them faster than all answers reach the host; :class:`PostProcess` gives the same
    detections for them.

    Args:
        logits: ``(A, K)`` tensor, levels one after the other.
        deltas: ``(A, 4)`` tensor.
        anchors: ``(A_l, 4)`` of each level.
        score_threshold: of the post-processing.

    Returns:
        Logits ``(n, K)``, deltas ``(n, 4)`` and the anchors left of each level.
    """
    above = ops.cast(logits > _logit(score_threshold), "float32")
    rows = ops.reshape(ops.nonzero(ops.max(above, axis=-1) > 0), (-1,))
    index = ops.to_numpy(rows)
    stops = np.cumsum([len(level) for level in anchors])[:-1]
    left = np.concatenate(anchors)[index]
    return (
        ops.to_numpy(ops.take(logits, rows, axis=0)),
        ops.to_numpy(ops.take(deltas, rows, axis=0)),
        np.split(left, np.searchsorted(index, stops)),
    )


def _logit(probability: float) -> float:
    if not 0 <= probability <= 1:
        raise ValueError(
            f"Invalid value for `score_threshold`. Expected 0 to 1. Received {probability}."
        )
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
