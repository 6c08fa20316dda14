"""``unidet eval --pictures``: ground truth beside detections."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unidet.data import DetectionDataset
    from unidet.evaluation import EvaluationResult


def write_pictures(
    args: argparse.Namespace, dataset: DetectionDataset, result: EvaluationResult
) -> None:
    """Draws ground truth and detections of each image into the folder of ``--pictures``."""
    from unidet.data.file_names import output_names
    from unidet.errors import UserError
    from unidet.structures import Detections
    from unidet.visualization import side_by_side, write_image

    of_image: dict[int, list[dict[str, Any]]] = {}
    for entry in result.results:
        of_image.setdefault(entry["image_id"], []).append(entry)
    boxes_alone = not result.per_class
    ids = [1] if boxes_alone else dataset.category_ids
    names = ("object",) if boxes_alone else dataset.class_names
    count = 0
    titles = output_names(record.file_name for record in dataset.images)
    for index in range(min(len(dataset), args.max_pictures or len(dataset))):
        record = dataset.images[index]
        try:
            pixels = dataset.read(index)
        except UserError:
            if args.on_bad == "error":
                raise
            continue  # reported already
        count += 1
        found = Detections.from_coco(of_image.get(record.id, []), ids, names)
        picture = side_by_side(
            pixels,
            dataset.targets(index),
            found,
            class_names=dataset.class_names,
            score_threshold=args.score_threshold,
            title=record.file_name,
        )
        write_image(Path(args.pictures) / titles[index], picture)
    print(f"{count} pictures in {args.pictures}")
