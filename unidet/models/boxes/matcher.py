"""Which anchor learns which object, decided on the host."""

from __future__ import annotations

import numpy as np

from unidet.backends import kernels
from unidet.models.boxes.geometry import box_area, intersection
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
        learnable = ~(targets.crowd | targets.ignore) & (box_area(targets.boxes_xyxy) > 0)
        rows = np.flatnonzero(learnable)
        best, owner, favourite = kernels.match(
            anchors_xyxy, targets.boxes_xyxy[rows], self.low_quality_iou
        )
        # Last, where -1 leads: no object.
        rows = np.append(rows, BACKGROUND)
        matched = np.where(best >= self.positive_iou, rows[owner], IGNORED)
        matched[best < self.negative_iou] = BACKGROUND
        if self.low_quality:
            taken = favourite >= 0
            chosen = favourite if self.low_quality == "target" else owner
            matched[taken] = rows[chosen[taken]]
        self._leave_out_ignored(matched, anchors_xyxy, targets)
        return matched

    def _leave_out_ignored(
        self, matched: np.ndarray, anchors_xyxy: np.ndarray, targets: Targets
    ) -> None:
        if self.ignore_overlap is None:
            return
        areas = box_area(anchors_xyxy)
        for index in np.flatnonzero(targets.crowd | targets.ignore):
            share = intersection(anchors_xyxy, targets.boxes_xyxy[index]) / areas
            matched[(matched == BACKGROUND) & (share > self.ignore_overlap)] = IGNORED
