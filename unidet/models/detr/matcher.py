"""DETR's matcher: each object gets the query that costs least overall (Carion et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.losses.pairwise import PAIRWISE
from unidet.models.boxes.geometry import from_centres


class HungarianMatcher:
    """One query for each object, so that the sum of all costs is smallest.

    Args:
        cost_class: weight of the probability that a query gives to the object's class.
        cost_bbox: weight of the distance of the four numbers of the boxes.
        cost_giou: weight of the overlap.
        measure: of the overlap: "giou", "diou" or "ciou".

    Raises:
        ValueError: no cost at all, or a negative one.
    """

    def __init__(
        self,
        cost_class: float = 1.0,
        cost_bbox: float = 5.0,
        cost_giou: float = 2.0,
        measure: str = "giou",
    ) -> None:
        costs = {"cost_class": cost_class, "cost_bbox": cost_bbox, "cost_giou": cost_giou}
        for name, cost in costs.items():
            if cost < 0:
                raise ValueError(
                    f"Invalid value for `{name}`. Expected 0 or more. Received {cost}."
                )
        if not any(costs.values()):
            raise ValueError(
                f"Invalid value for {', '.join(f'`{name}`' for name in costs)}. Expected one above "
                "0. Received 0 for all."
            )
        self.cost_class, self.cost_bbox, self.cost_giou = cost_class, cost_bbox, cost_giou
        self.overlap = PAIRWISE[measure]

    def costs(
        self,
        probabilities: np.ndarray,
        boxes_cxcywh: np.ndarray,
        labels: np.ndarray,
        wanted_cxcywh: np.ndarray,
    ) -> np.ndarray:
        """``(Q, n)`` costs of ``(Q, K + 1)`` and ``(Q, 4)`` predictions for ``n`` objects."""
        distance = np.abs(boxes_cxcywh[:, None] - wanted_cxcywh[None]).sum(axis=2)
        overlap = self.overlap(from_centres(boxes_cxcywh), from_centres(wanted_cxcywh))
        costs: np.ndarray = (
            self.cost_bbox * distance
            - self.cost_class * probabilities[:, labels]
            - self.cost_giou * overlap
        )
        return costs

    def __call__(self, *answers: Any) -> tuple[np.ndarray, np.ndarray]:
        """Matches the queries of one image with its objects.

        Args:
            answers: see :meth:`costs`; boxes are normalised.

        Returns:
            Indices ``(m,)`` of queries, rising, and of the object of each. All objects have a
            query unless there are fewer queries; then those that cost least have one.
        """
        costs = self.costs(*answers)
        # A network that diverges shows in its loss and does not stop here.
        largest = np.finfo(costs.dtype).max
        finite = np.where(np.isfinite(costs), costs, largest)
        # SciPy takes 0.2 s to import, which no other model needs.
        from scipy.optimize import linear_sum_assignment

        queries, objects = linear_sum_assignment(finite)
        return queries.astype(np.int64), objects.astype(np.int64)
