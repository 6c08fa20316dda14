"""Value types that data, models and evaluation exchange. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


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
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), class_names
        )

    def above(self, score_threshold: float) -> Detections:
        """Those with ``scores >= score_threshold``."""
        return self[self.scores >= score_threshold]


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
    crowd: np.ndarray | None = None
    ignore: np.ndarray | None = None

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

    def learnable(self) -> Targets:
        """Without crowd regions and ignored objects."""
        keep = ~(self.crowd | self.ignore)
        return Targets(self.boxes_xyxy[keep], self.labels[keep], self.crowd[keep], self.ignore[keep])


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
    """

    images: np.ndarray
    image_sizes: Sequence[tuple[int, int]]
    original_sizes: Sequence[tuple[int, int]]
    scales: Sequence[tuple[float, float]]
    targets: Sequence[Targets] = field(default_factory=list)
    image_ids: Sequence[int] = field(default_factory=list)
    dataset_ids: Sequence[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)
