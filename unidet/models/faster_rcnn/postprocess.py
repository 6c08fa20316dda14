"""From the raw outputs of a two-stage detector to detections, on the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unidet.backends import kernels
from unidet.backends.kernels.shared_soft_nms import shared_soft_nms
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.geometry import clip_boxes
from unidet.models.faster_rcnn.targets import ClassLayout
from unidet.structures import Detections


@dataclass(frozen=True)
class RoIPostProcess:
    """Threshold, decoding, clipping, NMS by class, cut.

    Attributes:
        coder: decodes boxes.
        rows: places of the classes among the outputs.
        num_labels: labels of the model.
        score_threshold: a detection scores more than this.
        nms_iou: IoU above which the lower score of one class is dropped.
        soft_nms: ``"linear"``, ``"gaussian"`` (Bodla et al. 2017) or None.
        soft_sigma: of the Gaussian.
        soft_min_score: lowest score that survives it.
        max_detections: kept for each image, or None for all.
        min_side: least side in pixels of the input, before NMS.
        drop_empty: boxes without area are dropped at the end.
        rescale: ``"before_nms"`` or ``"after_nms"``.
    """

    coder: BoxCoder
    rows: ClassLayout
    num_labels: int
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    soft_nms: str | None = None
    soft_sigma: float = 0.5
    soft_min_score: float = 1e-3
    max_detections: int | None = 100
    min_side: float = 0.0
    drop_empty: bool = False
    rescale: str = "after_nms"

    def __call__(
        self,
        scores: np.ndarray,
        deltas: np.ndarray,
        proposals: np.ndarray,
        *,
        image_size: tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
        class_names: tuple[str, ...] | None = None,
    ) -> Detections:
        """Detections of one image by falling score.

        Args:
            scores: ``(R, rows)`` float32, of :func:`softmax` or another rule.
            deltas: ``(R, 4 * groups)`` float32.
            proposals: ``(R, 4)`` float32 pixels of the input.
            image_size: ``(height, width)`` of the input before padding.
            scale: ``(sy, sx)``, size of the input over size of the original.
            class_names: names of the labels.
        """
        factor = np.array([*scale[::-1], *scale[::-1]], np.float32)
        before = factor if self.rescale == "before_nms" else np.float32(1)
        if self.rows.groups == 1 and self.soft_nms is not None:
            boxes, keep = self._usable(self.coder.decode(deltas, proposals), image_size, before)
            boxes, scores, labels = self._suppress_shared(boxes[keep], scores[keep])
        else:
            boxes, scores, labels = self._candidates(scores, deltas, proposals)
            boxes, keep = self._usable(boxes, image_size, before)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
            kept, scores = self._suppress(boxes, scores, labels)
            kept, scores = kept[: self.max_detections], scores[: self.max_detections]
            boxes, labels = boxes[kept], labels[kept]
        if self.rescale == "after_nms":
            boxes = boxes / factor
        if self.drop_empty:
            keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        return Detections(
            boxes.astype(np.float32),
            scores.astype(np.float32),
            labels.astype(np.int64),
            class_names,
        )

    def _usable(
        self, boxes: np.ndarray, image_size: tuple[int, int], factor: np.ndarray | np.float32
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes within the image, divided by ``factor``, and which of them count."""
        boxes = clip_boxes(boxes, *image_size)
        sides = boxes[:, 2:] - boxes[:, :2]
        keep = np.isfinite(boxes).all(axis=1) & (sides >= self.min_side).all(axis=1)
        return boxes / factor, keep

    def _above(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the labels ``(R, K)``, and which of them exceed the threshold."""
        rows = self.rows
        foreground = scores[:, rows.first : rows.first + self.num_labels]
        good = foreground > self.score_threshold  # false for NaN
        slot = rows.background - rows.first
        if slot in range(self.num_labels):  # the background's place among the labels
            good = good & (np.arange(self.num_labels) != slot)
        return foreground, good

    def _candidates(
        self, scores: np.ndarray, deltas: np.ndarray, proposals: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = self.rows
        foreground, good = self._above(scores)
        which, labels = np.nonzero(good)
        groups = deltas.reshape(len(deltas), rows.groups, 4)
        boxes = self.coder.decode(groups[which, rows.group(labels)], proposals[which])
        return boxes, foreground[which, labels], labels

    def _suppress_shared(
        self, boxes: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Soft NMS where all classes of a proposal have one box."""
        foreground, good = self._above(scores)
        rows, labels, values = shared_soft_nms(
            boxes,
            np.where(good, foreground, np.float32(-np.inf)),
            iou_threshold=self.nms_iou,
            sigma=self.soft_sigma,
            score_threshold=self.soft_min_score,
            method=str(self.soft_nms),
            limit=self.max_detections,
        )
        return boxes[rows], values, labels

    def _suppress(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.soft_nms is None:
            kept = kernels.batched_nms(boxes, scores, labels, self.nms_iou)
            return kept, scores[kept]
        indices, values = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        by_label = np.argsort(labels, kind="stable")
        borders = np.flatnonzero(np.diff(labels[by_label])) + 1
        for own in np.split(by_label, borders):
            kept, lowered = kernels.soft_nms(
                boxes[own],
                scores[own],
                self.nms_iou,
                self.soft_sigma,
                self.soft_min_score,
                self.soft_nms,
            )
            indices.append(own[kept])
            values.append(lowered)
        index, value = np.concatenate(indices), np.concatenate(values)
        order = np.argsort(-value, kind="stable")
        return index[order], value[order]
