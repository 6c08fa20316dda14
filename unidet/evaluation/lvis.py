"""The box metrics of LVIS, computed by the package lvis itself.

Each image of LVIS was searched for some classes only (Gupta et al. 2019, section 4): a detection of
another class counts neither way, nor does a false one of a class that was not marked exhaustively.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.evaluation.coco import (
    CocoScores,
    check_image_ids,
    class_rows,
    complete_truth,
    count_objects,
    plain_results,
)
from unidet.files.numbers import is_id
from unidet.files.shown import shown

#: Detections that count in an image.
MAX_DETECTIONS = 300
#: Keys of an image that hold the classes which were searched in vain, and not to the last object.
IMAGE_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
#: Classes in fewer than 10 training images, in fewer than 100, in more.
FREQUENCIES = ("r", "c", "f")


def lvis_metric_names(max_detections: int = MAX_DETECTIONS) -> tuple[str, ...]:
    """Names of the metrics, in the order in which lvis prints them."""
    precision = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
    return (*precision, f"AR{max_detections}", "ARs", "ARm", "ARl")


def evaluate_lvis(
    ground_truth: str | Path | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    image_ids: Sequence[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> CocoScores:
    """Scores results in COCO result form with LVIS's metrics.

    Args:
        ground_truth: LVIS annotations (v0.5 or v1), as a file or as its content.
        results: ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`` each; may be empty.
        image_ids: the images that count; all of the ground truth by default.
        max_detections: the best that count in an image, over all classes.

    Returns:
        The scores; their metrics have the names of :func:`lvis_metric_names`.

    Raises:
        UserError: ``ground_truth`` lacks what makes LVIS of COCO, results name an image that it
            lacks, or the package lvis is not installed.
    """
    content, results = complete_truth(ground_truth), plain_results(results)
    _check_truth(content)
    check_image_ids(
        (image["id"] for image in content["images"]), (r["image_id"] for r in results), "results"
    )
    lvis = _package()
    with _quiet():
        truth = _in_memory(lvis.LVIS, content)
        scorer = lvis.LVISEval(truth, _results(lvis, truth, results, max_detections), "bbox")
        scorer.params.max_dets = max_detections
        if image_ids is not None:
            scorer.params.img_ids = sorted(image_ids)
        scorer.run()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        scorer.print_results()
    values = scorer.get_results().values()
    names = lvis_metric_names(max_detections)
    per_class = class_rows(
        [truth.cats[i] for i in scorer.params.cat_ids],
        scorer.eval["precision"],
        scorer.eval["recall"],
        scorer.params.iou_thrs,
        count_objects(content["annotations"], scorer.params.img_ids),
        f"AR{max_detections}",
    )
    metrics = {name: float(value) for name, value in zip(names, values, strict=True)}
    return CocoScores(metrics, per_class, printed.getvalue().rstrip("\n"))


def _check_truth(content: Mapping[str, Any]) -> None:
    for image in content["images"]:
        for key in IMAGE_KEYS:
            ids = image.get(key)
            if not isinstance(ids, (list, tuple)) or not all(map(is_id, ids)):
                raise UserError(
                    f"Invalid annotations. Expected LVIS form, a list of category ids under "
                    f"{key!r} in each image. Received {shown(ids)} in image {image['id']}."
                )
    for category in content["categories"]:
        if category.get("frequency") not in FREQUENCIES:
            raise UserError(
                "Invalid annotations. Expected LVIS form, 'frequency' r, c or f in each category. "
                f"Received {shown(category.get('frequency'))} in {shown(category['name'])}."
            )


class _OldNumpy(types.ModuleType):
    """NumPy with the alias that lvis 0.5.3 asks for and NumPy 1.24 dropped."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@functools.cache
def _package() -> Any:
    """The package lvis, which sees NumPy through a stand-in of its own; others see no change."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    try:
        import lvis
        import lvis.eval
    except ImportError as error:
        raise UserError(
            f"The package lvis, which computes LVIS's metrics, cannot be imported ({error}). "
            "Install it: pip install --no-deps lvis (what it needs is here already; without "
            "--no-deps a second OpenCV would come along)."
        ) from error
    finally:
        # Its import calls logging.basicConfig, which is the application's business.
        root.handlers[:], root.level = before
    # The name lvis.eval is the module; a plain attribute of it is what its functions look up.
    vars(sys.modules["lvis.eval"])["np"] = _OldNumpy("numpy")
    return lvis


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that results in memory are taken as they are, and how it is called."""
    logger = logging.getLogger("lvis")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(before)


def _in_memory(kind: Any, content: Mapping[str, Any]) -> Any:
    """An ``LVIS`` around what is read already; its constructor knows files alone."""
    made = kind.__new__(kind)
    made.logger = logging.getLogger("lvis.lvis")
    made.dataset = content
    made._create_index()
    return made


def _results(
    lvis: Any, truth: Any, results: Sequence[Mapping[str, Any]], max_detections: int
) -> Any:
    if not results:
        # LVISResults looks at the first result and fails where there is none.
        return _in_memory(lvis.LVISResults, {**truth.dataset, "annotations": []})
    # It copies the whole ground truth, of which it reads images and categories.
    bare = _in_memory(lvis.LVIS, {**truth.dataset, "annotations": []})
    return lvis.LVISResults(bare, results, max_detections)
