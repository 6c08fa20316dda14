"""Which anchor learns which object, decided on the host."""

from __future__ import annotations

import numpy as np

from unidet.models.boxes import box_area, intersection, iou_with
from unidet.structures import Targets

#: Value of an anchor that learns to say "nothing here".
BACKGROUND = -1
#: Value of an anchor that learns nothing.
IGNORED = -2


class Matcher:
    """Assigns anchors by IoU (Ren et al. 2015, section 3.1.2).

    An anchor whose best IoU reaches ``positive_iou`` takes that object; one below
    ``negative_iou`` is background; between the two it is ignored.

    Args:
        positive_iou: least IoU of a positive anchor.
        negative_iou: IoU below which an anchor is background.
        low_quality: what the best anchors of an object get even below ``positive_iou``: ``None``
            (nothing: an object may stay unlearnt, yhenon), ``"target"`` (that object,
            mmdetection) or ``"anchor"`` (the object that the anchor itself overlaps most,
            torchvision and detectron2). Anchors that miss the object altogether are never taken.
        low_quality_iou: IoU that such an anchor must reach.
        ignore_overlap: an anchor that would be background is ignored when a crowd region or an
            ignored object covers more than this share of it; ``None`` lets it be background.
    """

    def __init__(
        self,
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        *,
        low_quality: str | None = "target",
        low_quality_iou: float = 0.0,
        ignore_overlap: float | None = None,
    ) -> None:
        if not 0 <= negative_iou <= positive_iou <= 1:
            raise ValueError(
                "Invalid value for `positive_iou`. Expected 0 <= negative_iou <= positive_iou <= 1."
                f" Received {negative_iou} and {positive_iou}."
            )
        if low_quality not in (None, "target", "anchor"):
            raise ValueError(
                "Invalid value for `low_quality`. Expected None, 'target' or 'anchor'. "
                f"Received {low_quality!r}."
            )
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.low_quality = low_quality
        self.low_quality_iou = low_quality_iou
        self.ignore_overlap = ignore_overlap

    def __call__(self, anchors_xyxy: np.ndarray, targets: Targets) -> np.ndarray:
        """Index into ``targets`` of each anchor, or ``BACKGROUND`` or ``IGNORED``.

        Objects without area are not learnt.

        Args:
            anchors_xyxy: ``(A, 4)`` float32 pixels.
            targets: objects of one image.

        Returns:
            ``(A,)`` int64.
        """
        areas = box_area(anchors_xyxy)
        best = np.zeros(len(anchors_xyxy), np.float32)
        owner = np.full(len(anchors_xyxy), BACKGROUND, np.int64)
        favourites: list[tuple[int, np.ndarray]] = []
        learnable = ~(targets.crowd | targets.ignore) & (box_area(targets.boxes_xyxy) > 0)
        # One object at a time: memory stays at a few numbers for each anchor.
        for index in np.flatnonzero(learnable):
            iou = iou_with(anchors_xyxy, areas, targets.boxes_xyxy[index])
            better = iou > best
            best[better] = iou[better]
            owner[better] = index
            highest = iou.max(initial=0)
            if self.low_quality and 0 < highest >= self.low_quality_iou:
                favourites.append((int(index), np.flatnonzero(iou == highest)))
        matched = np.where(best >= self.positive_iou, owner, IGNORED)
        matched[best < self.negative_iou] = BACKGROUND
        for index, anchors in favourites:
            matched[anchors] = index if self.low_quality == "target" else owner[anchors]
        self._leave_out_ignored(matched, anchors_xyxy, areas, targets)
        return matched

    def _leave_out_ignored(
        self, matched: np.ndarray, anchors_xyxy: np.ndarray, areas: np.ndarray, targets: Targets
    ) -> None:
        if self.ignore_overlap is None:
            return
        for index in np.flatnonzero(targets.crowd | targets.ignore):
            share = intersection(anchors_xyxy, targets.boxes_xyxy[index]) / areas
            matched[(matched == BACKGROUND) & (share > self.ignore_overlap)] = IGNORED
