"""Value types that data, models and evaluation exchange. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError


def _check(name: str, array: np.ndarray, shape: tuple[int | None, ...], kind: str) -> None:
    fits = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape)
    )
    if not fits or array.dtype != np.dtype(kind):
        expected = "(" + ", ".join("n" if s is None else str(s) for s in shape) + ")"
        raise ValueError(
            f"Invalid value for `{name}`. Expected {kind} of shape {expected}. "
            f"Received {array.dtype} of shape {array.shape}."
        )


@dataclass
class Detections:
    """Objects found in one image.

    Attributes:
        boxes_xyxy: ``(n, 4)`` float32, corners in pixels of the original image.
        scores: ``(n,)`` float32 in [0, 1].
        labels: ``(n,)`` int64, contiguous from 0, an index into ``class_names``.
        class_names: names of all classes of the model, where known.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        _check("boxes_xyxy", self.boxes_xyxy, (None, 4), "float32")
        _check("scores", self.scores, (count,), "float32")
        _check("labels", self.labels, (count,), "int64")

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, index: np.ndarray | slice) -> Detections:
        return Detections(
            self.boxes_xyxy[index], self.scores[index], self.labels[index], self.class_names
        )

    @classmethod
    def empty(cls, class_names: tuple[str, ...] | None = None) -> Detections:
        """No detections."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            class_names,
        )

    def above(self, score_threshold: float) -> Detections:
        """Those with ``scores >= score_threshold``."""
        return self[self.scores >= score_threshold]

    def names(self) -> list[str]:
        """The class name of each detection, or its label as text where names are unknown."""
        known = self.class_names or ()
        return [known[i] if 0 <= i < len(known) else str(i) for i in self.labels.tolist()]

    def to_coco(
        self, image_id: int, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """The COCO result form.

        Args:
            image_id: id of the image in the annotation file.
            category_ids: category id of each label; the label itself by default.

        Returns:
            ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`` each, in pixels.
        """
        # Widths in float64: a difference of float32 corners would be rounded once more.
        boxes = self.boxes_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        labels = self.labels.tolist()
        if category_ids is not None:
            if labels and not 0 <= min(labels) <= max(labels) < len(category_ids):
                raise ValueError(
                    f"Invalid value for `category_ids`. Expected one for each label. Received "
                    f"{len(category_ids)} for labels {min(labels)} to {max(labels)}."
                )
            labels = [int(category_ids[label]) for label in labels]
        return [
            {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
            for label, box, score in zip(labels, boxes.tolist(), self.scores.tolist())
        ]

    @classmethod
    def from_coco(
        cls,
        results: Sequence[Mapping[str, Any]],
        category_ids: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Detections:
        """Detections of one image from the COCO result form; a missing score counts as 1.

        Args:
            results: results of one image, or its annotations.
            category_ids: category id of each label; the label itself by default.
            class_names: names of all classes.

        Raises:
            UserError: a category id that is not in ``category_ids``.
        """
        label_of = None if category_ids is None else {c: i for i, c in enumerate(category_ids)}
        boxes = np.array([r["bbox"] for r in results], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [int(r["category_id"]) for r in results]
        if label_of is not None:
            strangers = sorted(set(labels) - set(label_of))
            if strangers:
                raise UserError(
                    "Invalid value for `results`. Expected category ids in `category_ids`. "
                    f"Received {strangers[0]}."
                )
            labels = [label_of[label] for label in labels]
        return cls(
            boxes.astype(np.float32),
            np.array([r.get("score", 1.0) for r in results], np.float32),
            np.array(labels, np.int64),
            None if class_names is None else tuple(class_names),
        )

    def to_supervision(self) -> Any:
        """The same as a ``supervision.Detections``.

        Raises:
            ImportError: the package ``supervision`` is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError(
                "The package 'supervision' is not installed. Install it: pip install supervision."
            ) from error
        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": np.array(self.names(), dtype=str)},
        )

    def draw(self, image: np.ndarray | str | Path, path: str | Path | None = None) -> np.ndarray:
        """Draws boxes and labels on a copy of the image.

        Args:
            image: ``(h, w, 3)`` uint8 RGB, or a file.
            path: where to save the picture; not saved by default.

        Returns:
            ``(h, w, 3)`` uint8 RGB.
        """
        from unidet.data.images import read_image
        from unidet.visualization.draw import draw_detections, write_image

        picture = draw_detections(read_image(image), self)
        if path is not None:
            write_image(path, picture)
        return picture


@dataclass
class Targets:
    """Ground truth of one image, in pixels of the network's input.

    Attributes:
        boxes_xyxy: ``(n, 4)`` float32.
        labels: ``(n,)`` int64, contiguous from 0.
        crowd: ``(n,)`` bool, regions that hold many objects.
        ignore: ``(n,)`` bool, objects that are neither learnt nor counted.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    # None stands for "no such object" in the constructor alone.
    crowd: np.ndarray = None  # type: ignore[assignment]
    ignore: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        if self.crowd is None:
            self.crowd = np.zeros(count, bool)
        if self.ignore is None:
            self.ignore = np.zeros(count, bool)
        _check("boxes_xyxy", self.boxes_xyxy, (None, 4), "float32")
        _check("labels", self.labels, (count,), "int64")
        _check("crowd", self.crowd, (count,), "bool")
        _check("ignore", self.ignore, (count,), "bool")

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, index: np.ndarray | slice) -> Targets:
        return Targets(
            self.boxes_xyxy[index], self.labels[index], self.crowd[index], self.ignore[index]
        )

    def learnable(self) -> Targets:
        """Without crowd regions and ignored objects."""
        return self[~(self.crowd | self.ignore)]


@dataclass(frozen=True)
class Part:
    """Which part of a whole batch a batch is.

    Attributes:
        first: place of its first image in the whole.
        whole: images of the whole.
        stands_in: the whole has too few images for all parts: those here are another part's and
            do not count.
    """

    first: int
    whole: int
    stands_in: bool = False


@dataclass
class Batch:
    """Images and ground truth of one step.

    Attributes:
        images: ``(N, 3, H, W)`` float32, normalised and padded at the bottom and right.
        image_sizes: ``(h, w)`` of each image before padding.
        original_sizes: ``(h, w)`` of each image on disk.
        scales: ``(sy, sx)``, size of the input over size of the original.
        targets: ground truth of each image, empty where there is none.
        image_ids: ids of the annotation file.
        dataset_ids: index of the data set that each image comes from.
        proposals: ``(n, 4)`` or, with scores, ``(n, 5)`` float32 of each image, in pixels of the
            input, best first, for models that classify given boxes; empty where there are none.
        part: which part of a batch that several ranks share; None for a whole batch.
    """

    images: np.ndarray
    image_sizes: Sequence[tuple[int, int]]
    original_sizes: Sequence[tuple[int, int]]
    scales: Sequence[tuple[float, float]]
    targets: Sequence[Targets] = field(default_factory=list)
    image_ids: Sequence[int] = field(default_factory=list)
    dataset_ids: Sequence[int] = field(default_factory=list)
    proposals: Sequence[np.ndarray] = field(default_factory=list)
    part: Part | None = None

    def __len__(self) -> int:
        return len(self.images)

    def padded(self, size: tuple[int, int]) -> Batch:
        """The same with more zeros at the bottom and right.

        Args:
            size: ``(H, W)``, no smaller than that of the images.
        """
        height, width = self.images.shape[2:]
        if (height, width) == size:
            return self
        more = ((0, 0), (0, 0), (0, size[0] - height), (0, size[1] - width))
        return dataclasses.replace(self, images=np.pad(self.images, more))
