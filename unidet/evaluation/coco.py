"""The COCO box metrics, computed by pycocotools itself."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.data.coco import check_lists
from unidet.data.entry_rules import box_defect, examine
from unidet.errors import UserError
from unidet.files.numbers import is_id, is_number
from unidet.files.reading import read_json
from unidet.files.shown import shown

if TYPE_CHECKING:  # imported where something is scored: it loads Matplotlib
    from pycocotools.coco import COCO

#: The twelve numbers in the order in which pycocotools prints them.
METRIC_NAMES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
#: Metrics of one size of objects, with their place among the areas.
AREAS = {"APs": 1, "APm": 2, "APl": 3}


@dataclass(frozen=True)
class CocoScores:
    """Scores of one set of results.

    Attributes:
        metrics: the names of :data:`METRIC_NAMES` to values in [0, 1]; -1 where the ground truth
            holds no object of that kind, as pycocotools has it.
        per_class: class name to ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``AR100``
            and ``objects`` (ground-truth boxes that are no crowd). With LVIS's rules the recall is
            named by its limit (``AR300``) and ``metrics`` by
            :func:`unidet.evaluation.lvis.lvis_metric_names`; where classes do not count, it is
            empty.
        table: the lines that the evaluator prints.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    table: str

    def class_table(self) -> str:
        """AP of each class as aligned text, best first; classes without objects are left out."""
        rows = [(n, v) for n, v in self.per_class.items() if v["objects"]]
        rows.sort(key=lambda row: -row[1]["AP"])
        width = max([len(name) for name, _ in rows] + [5])
        recall = next((key for _, row in rows for key in row if key.startswith("AR")), "AR100")
        lines = [f"{'class':<{width}}  objects     AP   AP50   AP75  {recall}"]
        for name, value in rows:
            numbers = "  ".join(_number(value[key]) for key in ("AP", "AP50", "AP75", recall))
            lines.append(f"{name:<{width}}  {int(value['objects']):>7}  {numbers}")
        return "\n".join(lines)


def _number(value: float) -> str:
    return "    -" if value < 0 else f"{value:.3f}"


def evaluate_coco(
    ground_truth: str | Path | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    image_ids: Sequence[int] | None = None,
) -> CocoScores:
    """Scores results in COCO result form.

    Args:
        ground_truth: annotations in COCO form, as a file or as its content. Missing ``iscrowd``
            counts as 0, missing ``area`` as width times height of the box, in pixels.
        results: ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`` each; may be empty.
        image_ids: the images that count; all of the ground truth by default.

    Returns:
        The scores. With no results every metric that has objects is 0.

    Raises:
        UserError: ``ground_truth`` or ``results`` are not in COCO form, or results name an image
            that it lacks.
    """
    from pycocotools.cocoeval import COCOeval

    truth, results = index_coco(complete_truth(ground_truth)), plain_results(results)
    check_image_ids(truth.getImgIds(), (r["image_id"] for r in results), "results")
    found = _load_results(truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        scorer = COCOeval(truth, found, "bbox")
        if image_ids is not None:
            scorer.params.imgIds = sorted(image_ids)
        scorer.evaluate()
        scorer.accumulate()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        scorer.summarize()
    metrics = {name: float(value) for name, value in zip(METRIC_NAMES, scorer.stats)}
    # precision: (IoU thresholds, recall points, classes, areas, caps); recall lacks the points.
    per_class = class_rows(
        [truth.cats[i] for i in scorer.params.catIds],
        scorer.eval["precision"][..., -1],
        scorer.eval["recall"][..., -1],
        scorer.params.iouThrs,
        count_objects(truth.dataset["annotations"], scorer.params.imgIds),
        "AR100",
    )
    return CocoScores(metrics, per_class, printed.getvalue().rstrip("\n"))


def check_image_ids(known: Iterable[Any], received: Iterable[Any], argument: str) -> None:
    """Refuses ids of images that the ground truth lacks.

    Raises:
        UserError: names ``argument`` and the first stranger.
    """
    strangers = sorted(set(received) - set(known))
    if strangers:
        raise UserError(
            f"Invalid value for `{argument}`. Expected image ids of the ground truth. "
            f"Received {len(strangers)} unknown, the first is {strangers[0]!r}."
        )


_RESULT_KEYS = ("image_id", "category_id", "bbox", "score")
#: What evaluators read of each entry of the ground truth; LVIS's two lists of ids included.
_ENTRY_KEYS = {
    "images": ("id", "width", "height", "neg_category_ids", "not_exhaustive_category_ids"),
    "categories": ("id", "name", "frequency"),
}
_ANNOTATION_KEYS = ("image_id", "category_id", "bbox", "area", "iscrowd", "ignore")
#: Stands in messages where a file's name would.
_IN_MEMORY = "in memory"


def read_truth(path: str | Path, *, annotated: bool = True) -> dict[str, Any]:
    """The ground truth of a file, every entry checked as for training.

    Args:
        path: annotations in COCO form.
        annotated: False takes a file without ``annotations``, as test sets come.

    Raises:
        UserError: names the file, the entry and the key.
    """
    content = read_json(path, "Annotation file")
    if not annotated and isinstance(content, dict):
        content.setdefault("annotations", [])
    return _checked(check_lists(content, path), str(path))


def complete_truth(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Ground truth in fresh objects, with all that evaluators read and nothing else.

    They copy what they are given, entry by entry, however deep it is. Annotations get fresh ids,
    ``iscrowd`` 0 and the area of the box where they have none.

    Raises:
        UserError: not in COCO form, or an entry that reading would refuse.
    """
    if isinstance(source, (str, Path)):
        content = read_truth(source)
    else:
        # Shallow copies suffice: only whole keys are added below.
        content = dict(source) if isinstance(source, Mapping) else source
        content = _checked(check_lists(content, _IN_MEMORY), _IN_MEMORY)
    return {
        **{
            name: [{key: entry[key] for key in keys if key in entry} for entry in content[name]]
            for name, keys in _ENTRY_KEYS.items()
        },
        "annotations": [_complete(i, a) for i, a in enumerate(content["annotations"], 1)],
    }


def _checked(content: dict[str, Any], source: str) -> dict[str, Any]:
    def refuse(kind: str, where: str, what: str) -> None:
        raise UserError(f"Invalid annotations {source}: {where}: {what}")

    examine(content, refuse, None)
    return content


def _complete(identity: int, annotation: Mapping[str, Any]) -> dict[str, Any]:
    # Fresh ids from 1: COCOeval takes a match with the object whose id is 0 for no match.
    full = {key: annotation[key] for key in _ANNOTATION_KEYS if key in annotation}
    full["id"] = identity
    for key in ("iscrowd", "ignore"):
        if key in full or key == "iscrowd":
            full[key] = int(bool(full.get(key)))
    if full.get("area") is None:
        full["area"] = full["bbox"][2] * full["bbox"][3]
    return full


def plain_results(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fresh entries with what evaluators need, and nothing that would make them do otherwise.

    NumPy's numbers and arrays count as Python's.

    Raises:
        UserError: names the entry that is no detection.
    """
    plain = []
    for i, entry in enumerate(results):
        if not isinstance(entry, Mapping) or not set(_RESULT_KEYS) <= set(entry):
            what = f"an entry without {', '.join(_RESULT_KEYS)}: {shown(entry)}"
            raise _no_detection(i, what)
        found = {key: _of_python(entry[key]) for key in _RESULT_KEYS}
        defect = box_defect(found["bbox"])
        if not is_number(found["score"]):
            raise _no_detection(i, f"the score {shown(found['score'])}")
        if not is_id(found["image_id"]) or not is_id(found["category_id"]):
            raise _no_detection(i, f"the ids {shown([found['image_id'], found['category_id']])}")
        if defect is not None:
            raise _no_detection(i, defect[1])
        plain.append(found)
    return plain


def _no_detection(index: int, what: str) -> UserError:
    return UserError(
        f"Invalid results. Expected detections in COCO form. Received {what} (entry {index})."
    )


def _of_python(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [v.item() if isinstance(v, np.generic) else v for v in value]
    return value


def index_coco(content: dict[str, Any]) -> COCO:
    """pycocotools' form of annotations in memory."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _load_results(truth: COCO, results: list[dict[str, Any]]) -> COCO:
    if not results:
        # COCO.loadRes looks at the first result and fails where there is none.
        return index_coco({**truth.dataset, "annotations": []})
    # COCO.loadRes copies this entry, which nothing else reads.
    truth.dataset["info"] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        return truth.loadRes(results)


def count_objects(
    annotations: Iterable[Mapping[str, Any]], image_ids: Iterable[int]
) -> dict[int, int]:
    """Boxes of each category id that are no crowd, in the images that count."""
    counted = set(image_ids)
    return Counter(
        a["category_id"] for a in annotations if a["image_id"] in counted and not a["iscrowd"]
    )


def class_rows(
    categories: Iterable[Mapping[str, Any]],
    precision: np.ndarray,
    recall: np.ndarray,
    thresholds: np.ndarray,
    objects: Mapping[int, int],
    recall_name: str,
) -> dict[str, dict[str, float]]:
    """Metrics of each class, by name; a name that occurs again has its id behind it.

    Args:
        categories: entries of the annotation file, in the order of the arrays.
        precision: ``(T, R, K, A)`` over IoU thresholds, recall points, classes and areas (all,
            small, medium, large); -1 where there is no object.
        recall: ``(T, K, A)``.
        thresholds: ``(T,)`` of IoU.
        objects: number of each category id.
        recall_name: key of the mean recall.
    """
    rows: dict[str, dict[str, float]] = {}
    for index, category in enumerate(categories):
        name = str(category.get("name", category["id"]))
        if name in rows:
            name = f"{name} ({category['id']})"
        cell = precision[:, :, index]
        row = {"AP": mean_valid(cell[:, :, 0])}
        for key, threshold in (("AP50", 0.5), ("AP75", 0.75)):
            row[key] = mean_valid(cell[np.isclose(thresholds, threshold)][:, :, 0])
        row |= {key: mean_valid(cell[:, :, area]) for key, area in AREAS.items()}
        row[recall_name] = mean_valid(recall[:, index, 0])
        rows[name] = {**row, "objects": float(objects.get(category["id"], 0))}
    return rows


def mean_valid(values: np.ndarray) -> float:
    """Mean of what is not -1, or -1 where nothing is."""
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0
