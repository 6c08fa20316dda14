"""Class prior: detections of each class in a first pass. Probability calibration divides by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.data.proposal_pickle import read_list
from unidet.errors import UserError
from unidet.files.numbers import is_id
from unidet.files.reading import is_file, read_json
from unidet.files.shown import shown

if TYPE_CHECKING:
    from unidet.data.dataset import DetectionDataset


def read_class_prior(path: str | Path, dataset: DetectionDataset) -> tuple[int, ...]:
    """Detections of each class in raw results.

    Args:
        path: ``.json``: results in COCO form, a list with a count for each class, or an object
            with such a list under ``detections`` and the ``class_names``, as ``unidet recipe``
            writes it; ``.pkl``: the raw results of UniDetector's own tools, for each image a list
            with an array ``(k, 5)`` for each class.
        dataset: whose classes they are.

    Returns:
        ``(C,)`` in the order of the data set's classes.

    Raises:
        UserError: no such file, another form, a hostile pickle, or results of another data set.
    """
    path = Path(path)
    if not is_file(path):
        raise UserError(f"Class prior not found: {path}")
    if path.suffix == ".pkl":
        form = "a list with one array (k, 5) for each class, for each image"
        return _of_arrays(read_list(path, "class prior", form), path, dataset)
    content = read_json(path, "Class prior")
    if isinstance(content, dict) and {"class_names", "detections"} <= set(content):
        names, content = content["class_names"], content["detections"]
        if names != list(dataset.class_names):
            raise UserError(
                f"Invalid class prior {path}. Expected the classes of {dataset.name} under "
                "'class_names', in their order. Received those of another data set."
            )
    if not isinstance(content, list) or not content:
        kind = "an empty list" if content == [] else f"a {type(content).__name__}"
        raise UserError(
            f"Invalid class prior {path}. Expected a list of results in COCO form, or a count for "
            f"each class. Received {kind}."
        )
    if isinstance(content[0], dict):
        return count_results(content, dataset, source=str(path))
    wrong = next((i for i, n in enumerate(content) if not is_id(n) or n < 0), None)
    if wrong is not None:
        raise UserError(
            f"Invalid class prior {path}. Expected whole numbers of 0 or more. "
            f"Received {shown(content[wrong])} in entry {wrong}."
        )
    _check_count(len(content), path, dataset)
    return tuple(content)


def count_results(
    results: list[Any], dataset: DetectionDataset, *, source: str = "results"
) -> tuple[int, ...]:
    """Detections of each class.

    Args:
        results: entries in COCO form; those of more or fewer images than the data set has will do.
        dataset: whose classes they are.
        source: of the results, for messages.

    Raises:
        UserError: an entry of another form, a category that the data set does not have, or images
            none of which it has.
    """
    places = {number: i for i, number in enumerate(dataset.category_ids)}
    images = {record.id for record in dataset.images}
    counts, known = [0] * len(places), False
    for i, entry in enumerate(results):
        keys = ("category_id", "image_id")
        ids = [entry.get(key) for key in keys] if isinstance(entry, dict) else [None]
        if not all(map(is_id, ids)):
            raise UserError(
                f"Invalid class prior {source}. Expected 'image_id' and 'category_id' in each "
                f"entry. Received {shown(entry)} in entry {i}."
            )
        if ids[0] not in places:
            raise UserError(
                f"Invalid class prior {source}. Expected results for {dataset.name}. Received "
                f"those of another data set: it has no category {ids[0]} (entry {i})."
            )
        counts[places[ids[0]]] += 1
        known = known or ids[1] in images
    if results and not known:
        raise UserError(
            f"Invalid class prior {source}. Expected results for {dataset.name}. Received those of "
            f"another data set: it has no image {results[0]['image_id']}, nor any other of them."
        )
    return tuple(counts)


def _of_arrays(images: list[Any], path: Path, dataset: DetectionDataset) -> tuple[int, ...]:
    counts = np.zeros(dataset.num_classes, np.int64)
    for i, classes in enumerate(images):
        if not isinstance(classes, (list, tuple)) or not all(map(_is_rows, classes)):
            raise UserError(
                f"Invalid class prior {path}. Expected a list with one array (k, 5) for each "
                f"class, for each image. Received something else for image {i}."
            )
        _check_count(len(classes), path, dataset)
        counts += [len(rows) for rows in classes]
    if not images:
        raise UserError(f"Invalid class prior {path}. Expected results of images. Received none.")
    return tuple(counts.tolist())


def _check_count(count: int, path: Path, dataset: DetectionDataset) -> None:
    if count != dataset.num_classes:
        raise UserError(
            f"Invalid class prior {path}. Expected the {dataset.num_classes} classes of "
            f"{dataset.name}. Received {count}: those of another data set."
        )


def _is_rows(rows: Any) -> bool:
    return isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == 5
