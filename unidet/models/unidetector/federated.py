"""Which classes enter the class loss of a step, decided on the host (Wang et al. 2023, after
Zhou et al. 2021): those of the objects, and some more by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unidet.backends import random
from unidet.backends.parallel import batch_split
from unidet.models.boxes.targets import padded
from unidet.models.faster_rcnn.targets import RoITargets


@dataclass(frozen=True)
class ClassTargets:
    """Class targets of some rows of the class outputs.

    Attributes:
        vocabulary: index of theirs.
        start, stop: which rows.
        columns: ``(S,)`` int64 classes of the vocabulary that are asked, padded.
        wanted: ``(R, S)`` float32, 1 where the row is of the class.
        weights: ``(1, S)`` float32, 0 for the padding and the background.
    """

    vocabulary: int
    start: int
    stop: int
    columns: np.ndarray
    wanted: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class OpenTargets(RoITargets):
    """Targets of a second stage that classifies by text.

    Attributes:
        groups: consecutive rows with a vocabulary and sampled classes of their own.
    """

    groups: tuple[ClassTargets, ...] = ()


def draw_classes(
    present: np.ndarray,
    size: int,
    wanted: int,
    counts: np.ndarray | None,
    generator: np.random.Generator,
) -> np.ndarray:
    """Further classes, each with the same chance.

    Args:
        present: rising indices of what the rows hold, the background (``size``) included.
        size: classes of the vocabulary.
        wanted: classes that should take part, with the present ones.
        counts: ``(size,)`` images of each class in the data set; classes without any are not
            drawn. The background, which may be drawn, changes nothing.
        generator: of the place.
    """
    known = np.ones(size, bool) if counts is None else np.asarray(counts) > 0
    pool = np.setdiff1d(np.flatnonzero(np.append(known, True)), present)
    count = min(max(wanted - len(present), 0), len(pool))
    return generator.choice(pool, count, replace=False) if count else pool[:0]


def class_targets(
    targets: RoITargets,
    sizes: Sequence[int],
    dataset_ids: Sequence[int],
    *,
    background: int,
    wanted: int,
    counts: Sequence[np.ndarray | None],
    by_image: bool,
    weight: float = 1.0,
) -> OpenTargets:
    """Adds class targets to the targets of the second stage.

    With one vocabulary all rows share the sampled classes, and the sum over rows and classes is
    divided by the number of rows; with several each image has its own, and the loss is the mean
    over images (the official heads). Parts of a batch (:mod:`unidet.backends.parallel.batch_split`)
    draw their classes each for itself.

    Args:
        targets: sampled proposals, image after image.
        sizes: classes of each vocabulary.
        dataset_ids: vocabulary of each image.
        background: what ``targets.classes`` says of background rows.
        wanted: classes that take part.
        counts: ``(size,)`` images of each class, for each vocabulary, or None.
        by_image: several vocabularies.
        weight: factor of the loss.
    """
    images = targets.images
    borders = [0, len(images)]
    if by_image:
        borders = [*np.searchsorted(images, np.arange(len(dataset_ids))).tolist(), len(images)]
    images_asked = batch_split.mean_count("images", len(dataset_ids)) if by_image else 0.0
    rows_asked = 0.0 if by_image else batch_split.mean_count("rows", len(images))
    groups = []
    for i, (start, stop) in enumerate(pairwise(borders)):
        if start == stop:
            continue
        vocabulary = dataset_ids[i] if by_image else 0
        size = sizes[vocabulary]
        labels = targets.classes[start:stop]
        labels = np.where(labels == background, size, labels)
        present = np.unique(labels)
        generator = random.local_stream("federated", batch_split.image_index(i))
        more = draw_classes(present, size, wanted, counts[vocabulary], generator)
        columns = np.concatenate([present, more]).astype(np.int64)
        share = weight / (images_asked * (stop - start) if by_image else rows_asked)
        # A batch without any proposal reads one box that weighs nothing.
        used = (columns < size) & bool(targets.weights[start:stop].any())
        asked = padded(columns)
        weights = padded(np.where(used, share, 0).astype(np.float32))
        groups.append(
            ClassTargets(
                vocabulary=vocabulary,
                start=start,
                stop=stop,
                columns=asked,
                wanted=((labels[:, None] == asked) & (weights > 0)).astype(np.float32),
                weights=weights[None],
            )
        )
    fields = {name: getattr(targets, name) for name in RoITargets.__dataclass_fields__}
    return OpenTargets(**fields, groups=tuple(groups))
