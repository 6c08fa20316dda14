"""A data set in memory: which images, which classes, which boxes. Pixels stay on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.data.images import read_image, size_defect
from unidet.errors import UserError
from unidet.files.reading import is_file
from unidet.structures import Targets


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set.

    Attributes:
        id: number of the annotation file.
        path: where the pixels are.
        file_name: name as the annotation file spells it.
        width: pixels, 0 where the annotation file does not say.
        height: pixels, 0 where the annotation file does not say.
        extra: further keys of the annotation file (LVIS: ``neg_category_ids`` and so on).
    """

    id: int
    path: Path
    file_name: str
    width: int
    height: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Annotations:
    """Boxes of one image.

    Attributes:
        boxes_xyxy: ``(n, 4)`` float32, corners in pixels of the original image.
        labels: ``(n,)`` int64, contiguous 0..K-1.
        crowd: ``(n,)`` bool, regions that hold many objects.
        ignore: ``(n,)`` bool, neither learnt nor counted.
        areas: ``(n,)`` float64, square pixels of the annotation file (of the mask, where it has
            masks), else of the box.
        ids: ``(n,)`` int64, annotation ids.
        boxes_xywh: ``(n, 4)`` float64, as in the annotation file, so that evaluation is exact.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    areas: np.ndarray
    ids: np.ndarray
    boxes_xywh: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    @classmethod
    def build(
        cls,
        boxes_xywh: Sequence[Sequence[float]],
        labels: Sequence[int],
        *,
        crowd: Sequence[bool] | None = None,
        ignore: Sequence[bool] | None = None,
        areas: Sequence[float | None] | None = None,
        ids: Sequence[int] | None = None,
    ) -> Annotations:
        """From lists; ``None`` areas are those of the boxes, missing ids count from 1."""
        count = len(labels)
        xywh = np.asarray(boxes_xywh, np.float64).reshape(count, 4)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        own = xywh[:, 2] * xywh[:, 3]
        if areas is not None:
            own = np.array([a if g is None else g for a, g in zip(own, areas)], np.float64)
        return cls(
            boxes_xyxy=xyxy.astype(np.float32),
            labels=np.asarray(labels, np.int64).reshape(count),
            crowd=np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool),
            ignore=np.zeros(count, bool) if ignore is None else np.asarray(ignore, bool),
            areas=own,
            ids=np.arange(1, count + 1) if ids is None else np.asarray(ids, np.int64),
            boxes_xywh=xywh,
        )


@dataclass
class DetectionDataset:
    """Images, classes and boxes.

    Attributes:
        name: shown in messages and reports.
        images: in the order of the annotation file.
        class_names: name of each contiguous label.
        category_ids: id of each contiguous label in the annotation file.
        annotations: one entry for each image.
        skipped: what a reader with ``on_bad="skip"`` left out, one line each.
        categories: entries of the annotation file, in the order of ``category_ids``.
        proposals: ``(n, 4)`` or, with scores, ``(n, 5)`` float32 of each image in pixels of the
            original, best first, or none at all.
        metric: whose rules count detections: "coco", or "lvis" for data in which each image was
            searched for some classes only.
        embeddings: ``(K, D)`` float32 text embeddings of the classes, or None.
        image_counts: ``(K,)`` int64 images that hold each class in the whole data set, of which
            this may be a part, or None.
    """

    name: str
    images: list[ImageRecord]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    annotations: list[Annotations]
    skipped: list[str] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    proposals: list[np.ndarray] = field(default_factory=list)
    metric: str = "coco"
    embeddings: np.ndarray | None = None
    image_counts: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.annotations):
            raise ValueError(
                "Invalid value for `annotations`. Expected one entry for each of "
                f"{len(self.images)} images. Received {len(self.annotations)}."
            )
        if len(self.class_names) != len(self.category_ids):
            raise ValueError(
                "Invalid value for `category_ids`. Expected one id for each of "
                f"{len(self.class_names)} classes. Received {len(self.category_ids)}."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def num_boxes(self) -> int:
        """Boxes of all images, crowd and ignored ones included."""
        return sum(len(entry) for entry in self.annotations)

    def aspect_ratio(self, i: int) -> float:
        """Width over height of image ``i``; 1 where the annotation file gives no size."""
        record = self.images[i]
        return record.width / record.height if record.width and record.height else 1.0

    def targets(self, i: int) -> Targets:
        """Ground truth of image ``i`` in pixels of the original; safe to change."""
        entry = self.annotations[i]
        return Targets(
            entry.boxes_xyxy.copy(), entry.labels.copy(), entry.crowd.copy(), entry.ignore.copy()
        )

    def check_files(self) -> None:
        """Looks whether every image file is there, before hours of work meet a missing one.

        Raises:
            UserError: names the first missing file and says how many there are.
        """
        missing = [record.path for record in self.images if not is_file(record.path)]
        if missing:
            more = (
                f" ({len(missing)} of {len(self.images)} are missing)" if len(missing) > 1 else ""
            )
            raise UserError(f"Image file not found: {missing[0]}{more}")

    def read(self, i: int) -> np.ndarray:
        """Pixels of image ``i``: ``(h, w, 3)`` uint8 RGB.

        Raises:
            UserError: the file is missing, damaged or no image, or its size is not the one of the
                annotations, whose boxes would then lie elsewhere.
        """
        record = self.images[i]
        pixels = read_image(record.path)
        defect = size_defect(record.path, pixels, record.width, record.height)
        if defect:
            raise UserError(
                f"Image file has another size than its annotation: {record.path} ({defect}). "
                "Expected the pictures that were annotated; on_bad 'skip' leaves such images out."
            )
        return pixels

    def select(self, indices: Sequence[int], name: str | None = None) -> DetectionDataset:
        """The images at ``indices``, all classes kept."""
        return DetectionDataset(
            name=name or self.name,
            images=[self.images[i] for i in indices],
            class_names=self.class_names,
            category_ids=self.category_ids,
            annotations=[self.annotations[i] for i in indices],
            categories=self.categories,
            proposals=[self.proposals[i] for i in indices] if self.proposals else [],
            metric=self.metric,
            embeddings=self.embeddings,
            image_counts=self.image_counts,
        )

    def to_coco(self) -> dict[str, Any]:
        """COCO form with the original category, image and annotation ids.

        Annotation ids are renumbered from 1 where they are not unique and positive
        (``pycocotools`` takes id 0 for "no match").
        """
        ids = [int(x) for entry in self.annotations for x in entry.ids]
        renumber = len(set(ids)) < len(ids) or min(ids, default=1) < 1
        annotations: list[dict[str, Any]] = []
        for record, entry in zip(self.images, self.annotations):
            for j in range(len(entry)):
                item = {
                    "id": len(annotations) + 1 if renumber else int(entry.ids[j]),
                    "image_id": record.id,
                    "category_id": self.category_ids[entry.labels[j]],
                    "bbox": entry.boxes_xywh[j].tolist(),
                    "area": float(entry.areas[j]),
                    "iscrowd": int(entry.crowd[j]),
                }
                if entry.ignore[j]:
                    item["ignore"] = 1
                annotations.append(item)
        categories = self.categories or [
            {"id": i, "name": n} for i, n in zip(self.category_ids, self.class_names)
        ]
        return {
            "info": {"description": self.name},
            "images": [
                {
                    **r.extra,
                    "id": r.id,
                    "file_name": r.file_name,
                    "width": r.width,
                    "height": r.height,
                }
                for r in self.images
            ],
            "annotations": annotations,
            "categories": [dict(c) for c in categories],
        }
