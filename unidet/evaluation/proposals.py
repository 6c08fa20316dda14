"""Scores of boxes without classes: recall of proposals, class-agnostic precision (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.evaluation.coco import (
    AREAS,
    CocoScores,
    check_image_ids,
    complete_truth,
    index_coco,
    mean_valid,
)

#: How many proposals of an image count for each recall.
LIMITS = (100, 300, 1000)
_SIZES = {"ARs": 1, "ARm": 2, "ARl": 3}


def limits_up_to(count: int) -> tuple[int, ...]:
    """Those of :data:`LIMITS` below ``count``, and ``count``."""
    return (*(limit for limit in LIMITS if limit < count), count)


def box_metric_names(limits: Sequence[int] = LIMITS, *, scored: bool = True) -> tuple[str, ...]:
    """Names of the metrics of :func:`score_boxes`; ``scored``: with those that need scores."""
    precision = ("AP", "AP50", "AP75", *AREAS) if scored else ()
    return (*precision, *(f"AR{limit}" for limit in limits), *_SIZES)


def evaluate_proposals(
    ground_truth: str | Path | Mapping[str, Any],
    proposals: Mapping[int, np.ndarray],
    *,
    limits: Sequence[int] = LIMITS,
    category_ids: Sequence[int] | None = None,
) -> CocoScores:
    """How many objects are found by proposals: average recall over IoU 0.5 to 0.95.

    Args:
        ground_truth: annotations in COCO form, as a file or as its content.
        proposals: ``(n, 4)`` or ``(n, 5)`` of each image id, corners in pixels of the original
            and scores, best first.
        limits: the best that count in an image, rising.
        category_ids: only objects of these categories count, such as those that a model has not
            seen in training; all by default.

    Returns:
        The scores, with the names of :func:`box_metric_names`; precision only where the proposals
        have scores, for it ranks those of all images.

    Raises:
        UserError: ``ground_truth`` is not in COCO form, an unknown category, or proposals of other
            images or not of all.
    """
    content = complete_truth(ground_truth)
    known = [image["id"] for image in content["images"]]
    check_image_ids(known, proposals, "proposals")
    missing = [i for i in known if i not in proposals]
    if missing:
        raise UserError(
            "Invalid value for `proposals`. Expected an entry for each image of the ground truth. "
            f"Received none for {len(missing)}, the first is {missing[0]}."
        )
    scored = all(rows.shape[1] == 5 for rows in proposals.values())
    results = []
    for image_id, rows in proposals.items():
        boxes = rows[:, :4].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        scores = rows[:, 4] if scored else np.arange(len(rows), 0, -1)
        results += [
            {"image_id": image_id, "bbox": box, "score": score}
            for box, score in zip(boxes.tolist(), scores.tolist())
        ]
    return score_boxes(content, results, limits=limits, category_ids=category_ids, scored=scored)


def score_boxes(
    ground_truth: str | Path | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    limits: Sequence[int] = LIMITS,
    category_ids: Sequence[int] | None = None,
    image_ids: Sequence[int] | None = None,
    scored: bool = True,
) -> CocoScores:
    """Average precision and recall of boxes, whatever their class (``useCats = 0``).

    Args:
        ground_truth: annotations in COCO form, as a file or as its content.
        results: ``{"image_id", "bbox": [x, y, w, h], "score"}`` each; a category plays no part.
        limits: the best that count in an image, rising. Precision and the recall of small, medium
            and large objects are those at the last.
        category_ids: only objects of these categories count; all by default.
        image_ids: the images that count; all of the ground truth by default.
        scored: whether scores of different images can be compared; else there is no precision.

    Raises:
        UserError: ``ground_truth`` is not in COCO form, an unknown category or image, or limits
            that do not rise.
    """
    limits = list(limits)
    if not limits or limits[0] < 1 or any(a >= b for a, b in pairwise(limits)):
        raise UserError(
            f"Invalid value for `limits`. Expected rising numbers above 0. Received {limits}."
        )
    from pycocotools.cocoeval import COCOeval

    truth = index_coco(complete_truth(ground_truth))
    check_image_ids(truth.getImgIds(), (r["image_id"] for r in results), "results")
    chosen = sorted(truth.cats) if category_ids is None else list(category_ids)
    strange = [i for i in chosen if i not in truth.cats]
    if strange or not chosen:
        raise UserError(
            "Invalid value for `category_ids`. Expected categories of the ground truth. "
            f"Received {strange[0] if strange else 'none'}."
        )
    scorer = COCOeval(truth, _found(truth, results, chosen[0]), "bbox")
    scorer.params.useCats = 0
    scorer.params.catIds = chosen
    scorer.params.maxDets = limits
    if image_ids is not None:
        scorer.params.imgIds = sorted(image_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        scorer.evaluate()
        scorer.accumulate()
    metrics = _metrics(scorer, limits, scored)
    counted, wanted = set(scorer.params.imgIds), set(chosen)
    objects = sum(
        a["image_id"] in counted and a["category_id"] in wanted and not a["iscrowd"]
        for a in truth.dataset["annotations"]
    )
    return CocoScores(metrics, {}, _table(objects, metrics))


def _found(truth: Any, results: Sequence[Mapping[str, Any]], category_id: int) -> Any:
    # pycocotools looks boxes up by category even where categories do not count.
    annotations = [
        {
            "id": i,
            "image_id": result["image_id"],
            "category_id": category_id,
            "bbox": result["bbox"],
            "score": result["score"],
            "area": result["bbox"][2] * result["bbox"][3],
            "iscrowd": 0,
        }
        for i, result in enumerate(results, start=1)
    ]
    return index_coco({**truth.dataset, "annotations": annotations})


def _metrics(scorer: Any, limits: Sequence[int], scored: bool) -> dict[str, float]:
    # precision: (IoU thresholds, recall points, 1, areas, limits); recall lacks the points.
    precision, recall = scorer.eval["precision"][:, :, 0], scorer.eval["recall"][:, 0]
    thresholds = scorer.params.iouThrs
    metrics: dict[str, float] = {}
    if scored:
        metrics["AP"] = mean_valid(precision[:, :, 0, -1])
        for key, threshold in (("AP50", 0.5), ("AP75", 0.75)):
            metrics[key] = mean_valid(precision[np.isclose(thresholds, threshold)][:, :, 0, -1])
        metrics |= {key: mean_valid(precision[:, :, area, -1]) for key, area in AREAS.items()}
    metrics |= {f"AR{limit}": mean_valid(recall[:, 0, i]) for i, limit in enumerate(limits)}
    return metrics | {key: mean_valid(recall[:, area, -1]) for key, area in _SIZES.items()}


def _table(objects: int, metrics: Mapping[str, float]) -> str:
    """Two lines: names and values."""
    cells = [("objects", f"{objects}")]
    cells += [(name, "-" if value < 0 else f"{value:.3f}") for name, value in metrics.items()]
    widths = [max(len(name), len(value), 5) for name, value in cells]
    lines = ("  ".join(cell[i].rjust(width) for cell, width in zip(cells, widths)) for i in (0, 1))
    return "\n".join(lines)
