"""Localisation error: distance of detections from objects, in pixels of the original images.

Average precision tells whether boxes are found; this tells how well they sit. Two rules say which
detection belongs to which object. Neither looks at classes or at crowds, and only detections of at
least a given score take part.

``top``
    The best-scoring detection of an image against the object that it overlaps most; where it
    overlaps none, against the one whose centre is nearest. One pair for each image.
``matched``
    Every object against a detection of its own: pairs are taken by falling IoU until no detection
    and object that are both free overlap. Objects left over are missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.models.boxes.geometry import paired_iou

RULES = ("top", "matched")
#: Distances of a pair, in the order of :func:`distances`, with their titles in a table.
MEASURES = {"centre_px": "centre [px]", "corner_px": "corners [px]", "iou": "IoU"}
#: Least score of a detection that takes part.
SCORE_THRESHOLD = 0.3


@dataclass(frozen=True)
class Localisation:
    """What :func:`localisation` found.

    Attributes:
        score_threshold: detections of less took no part.
        images: number of images.
        images_without_objects: of these; they take no further part.
        images_without_detections: of those that hold objects.
        objects: in all images; crowds do not count.
        missed: objects without a pair under the rule ``matched``.
        rules: rule to measure to one value for each pair.
    """

    score_threshold: float
    images: int
    images_without_objects: int
    images_without_detections: int
    objects: int
    missed: int
    rules: dict[str, dict[str, np.ndarray]]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types: each measure as mean and population standard deviation over the pairs.

        Without a pair both are None.
        """
        return {
            "score_threshold": self.score_threshold,
            "images": self.images,
            "images_without_objects": self.images_without_objects,
            "images_without_detections": self.images_without_detections,
            "objects": self.objects,
            "missed": self.missed,
            **{
                rule: {
                    "pairs": len(values["iou"]),
                    **{name: _mean_and_std(values[name]) for name in MEASURES},
                }
                for rule, values in self.rules.items()
            },
        }

    def table(self) -> str:
        """The report for people."""
        told = self.to_dict()
        titles = {"top": "top box of each image", "matched": "each object, by overlap"}
        width = max(map(len, titles.values()))
        lines = [
            f"localisation (detections of score {self.score_threshold:g} or more, classes not "
            "looked at, mean +- std)",
            f"{'':<{width}}  pairs" + "".join(f"  {title:>16}" for title in MEASURES.values()),
        ]
        for rule, title in titles.items():
            cells = "".join(f"  {_cell(told[rule][name], name):>16}" for name in MEASURES)
            lines.append(f"{title:<{width}}  {told[rule]['pairs']:>5}{cells}")
        lines.append(
            f"{self.images} images: {self.images_without_objects} without an object, "
            f"{self.images_without_detections} of the others without a detection; "
            f"{self.missed} of {self.objects} objects missed"
        )
        return "\n".join(lines)


def _mean_and_std(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "std": None}
    return {"mean": float(values.mean()), "std": float(values.std())}


def _cell(value: Mapping[str, float | None], measure: str) -> str:
    if value["mean"] is None:
        return "-"
    digits = 3 if measure == "iou" else 2
    return f"{value['mean']:.{digits}f} +- {value['std']:.{digits}f}"


def localisation(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    score_threshold: float = SCORE_THRESHOLD,
    image_ids: Sequence[int] | None = None,
) -> Localisation:
    """Measures how well detections sit on objects.

    Args:
        ground_truth: ``images`` and ``annotations`` in COCO form, boxes ``[x, y, w, h]`` in pixels.
        results: detections in COCO result form.
        score_threshold: detections of a lower score take no part.
        image_ids: the images that count; all of the ground truth by default.

    Raises:
        ValueError: a threshold outside [0, 1].
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(
            f"Invalid value for `score_threshold`. Expected a number in [0, 1]. "
            f"Received {score_threshold}."
        )
    ids = [i["id"] for i in ground_truth["images"]] if image_ids is None else list(image_ids)
    objects: dict[Any, list[Any]] = {image: [] for image in ids}
    for entry in ground_truth.get("annotations", ()):
        left_out = entry.get("iscrowd") or entry.get("ignore")
        if entry["image_id"] in objects and not left_out:
            objects[entry["image_id"]].append(entry["bbox"])
    found: dict[Any, list[Any]] = {image: [] for image in ids}
    # The surest come first; ties keep their order.
    for entry in sorted(results, key=lambda entry: -entry["score"]):
        if entry["image_id"] in found and entry["score"] >= score_threshold:
            found[entry["image_id"]].append(entry["bbox"])
    pairs: dict[str, list[np.ndarray]] = {rule: [] for rule in RULES}
    for image in ids:
        if objects[image] and found[image]:
            truth, boxes = _corners(objects[image]), _corners(found[image])
            pairs["top"].append(_top(boxes[0], truth))
            pairs["matched"] += _matched(boxes, truth)
    count = sum(map(len, objects.values()))
    return Localisation(
        score_threshold=float(score_threshold),
        images=len(ids),
        images_without_objects=sum(not objects[image] for image in ids),
        images_without_detections=sum(bool(objects[i]) and not found[i] for i in ids),
        objects=count,
        missed=count - len(pairs["matched"]),
        rules={rule: _measures(pairs[rule]) for rule in RULES},
    )


def _corners(boxes_xywh: Sequence[Any]) -> np.ndarray:
    boxes = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _measures(pairs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    rows = np.asarray(pairs, np.float64).reshape(-1, 2, 4)
    return dict(zip(MEASURES, distances(rows[:, 0], rows[:, 1])))


def distances(
    found_xyxy: np.ndarray, truth_xyxy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance of centres, mean corner error and IoU of boxes ``(n, 4)``, row by row.

    The mean corner error is the mean of the absolute differences of x1, y1, x2 and y2.
    """
    difference = found_xyxy - truth_xyxy
    centre = np.hypot(*((difference[:, :2] + difference[:, 2:]) / 2).T)
    return centre, np.abs(difference).mean(axis=1), paired_iou(found_xyxy, truth_xyxy)


def _top(box: np.ndarray, truth: np.ndarray) -> np.ndarray:
    centre, _, iou = distances(np.broadcast_to(box, truth.shape), truth)
    best = int(np.lexsort((centre, -iou))[0])
    return np.stack([box, truth[best]])


def _matched(boxes: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    rows, columns = len(boxes), len(truth)
    iou = paired_iou(np.repeat(boxes, columns, axis=0), np.tile(truth, (rows, 1)))
    free_box, free_object = np.ones(rows, bool), np.ones(columns, bool)
    pairs = []
    # Stable, so that of equal overlaps the surer box is taken.
    for index in np.argsort(-iou, kind="stable"):
        box, target = divmod(int(index), columns)
        if iou[index] > 0 and free_box[box] and free_object[target]:
            free_box[box] = free_object[target] = False
            pairs.append(np.stack([boxes[box], truth[target]]))
    return pairs
