"""From the raw outputs of a region proposal network to proposals, on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unidet.backends import kernels
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.geometry import clip_boxes
from unidet.models.boxes.tblr_coder import TBLRCoder


@dataclass(frozen=True)
class ProposalSelector:
    """Best candidates of each level, decoding, clipping, NMS within levels, best of all levels.

    torchvision, mmdetection and detectron2 agree on this order (Ren et al. 2015, section 3.3, and
    Lin et al. 2017 for the levels) and differ in the numbers.

    Attributes:
        coder: decodes boxes.
        nms_iou: IoU above which the lower score of one level is dropped. None: the candidates of
            all levels are the proposals, level after level (UniDetector's first stage).
        min_side: least side in pixels, after clipping; a side of 0 is always dropped.
        score_threshold: least probability.
    """

    coder: BoxCoder | TBLRCoder
    nms_iou: float | None = 0.7
    min_side: float = 0.0
    score_threshold: float = 0.0

    def __call__(
        self,
        logits: np.ndarray,
        deltas: np.ndarray,
        anchors: Sequence[np.ndarray],
        *,
        image_size: tuple[int, int],
        pre_nms: int,
        post_nms: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Proposals of one image, after NMS by falling score.

        Args:
            logits: ``(A,)`` float32, levels one after the other.
            deltas: ``(A, 4)`` float32.
            anchors: ``(A_l, 4)`` float32 of each level, in pixels of the input.
            image_size: ``(height, width)`` of the input before padding.
            pre_nms: candidates of each level.
            post_nms: proposals kept.

        Returns:
            ``(n, 4)`` float32 boxes in pixels of the input and their logits ``(n,)``.
        """
        start = 0
        parts = []
        for level, own in enumerate(anchors):
            scores = logits[start : start + len(own)]
            best = top_indices(scores, pre_nms)
            boxes = self.coder.decode(deltas[start : start + len(own)][best], own[best])
            parts.append((boxes, scores[best], np.full(len(best), level)))
            start += len(own)
        boxes, scores, levels = (np.concatenate(column) for column in zip(*parts))
        boxes = clip_boxes(boxes, *image_size)
        if self.nms_iou is None:
            finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
            return np.ascontiguousarray(boxes[finite]), scores[finite]
        keep = np.flatnonzero(self._usable(boxes, scores))
        boxes, scores, levels = boxes[keep], scores[keep], levels[keep]
        kept = kernels.batched_nms(boxes, scores, levels, self.nms_iou)[:post_nms]
        return np.ascontiguousarray(boxes[kept]), scores[kept]

    def _usable(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        sides = boxes[:, 2:] - boxes[:, :2]
        # Comparisons with NaN are false, so what diverged drops out.
        good = ((sides > 0) & (sides >= self.min_side)).all(axis=1) & np.isfinite(sides).all(axis=1)
        good = good & np.isfinite(scores)
        if self.score_threshold > 0:
            share = min(self.score_threshold, 1 - 1e-7)
            good = good & (scores >= math.log(share / (1 - share)))
        return good


def top_indices(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest values, falling; lower indices first at ties, NaN last."""
    if count < len(values):
        sortable = np.where(np.isnan(values), -np.inf, values)
        bound = np.partition(sortable, len(values) - count)[len(values) - count]
        above = np.flatnonzero(sortable > bound)
        ties = np.flatnonzero(sortable == bound)[: count - len(above)]
        index = np.sort(np.concatenate([above, ties]))
    else:
        index = np.arange(len(values))
    return index[np.argsort(-values[index], kind="stable")]


def inside_image(
    anchors_xyxy: np.ndarray, image_size: tuple[int, int], border: float
) -> np.ndarray:
    """Whether each anchor ``(A, 4)`` stays within ``border`` pixels of the image, ``(A,)`` bool."""
    height, width = image_size
    low = (anchors_xyxy[:, :2] >= -border).all(axis=1)
    x, y = anchors_xyxy[:, 2], anchors_xyxy[:, 3]
    return low & (x < width + border) & (y < height + border)
