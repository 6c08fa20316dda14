"""Batches for training and evaluation: seeded, sharded, resumable, read ahead by threads."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from unidet.backends.random import stream
from unidet.data.cache import ImageCache
from unidet.data.coco import check_on_bad
from unidet.data.dataset import DetectionDataset
from unidet.data.iterator import BatchIterator
from unidet.data.order import count_batches, plan_batches, take_part
from unidet.data.preprocess import Preprocess, Sample
from unidet.data.proposals import with_proposals, without_proposals
from unidet.data.resize import SIDE_RULES
from unidet.data.stall import StallWatch
from unidet.data.transforms import (
    Augmentation,
    FirstEpochs,
    RandomResize,
    active,
    clip_targets,
    scale_targets,
)
from unidet.errors import UserError
from unidet.structures import Batch, Part

logger = logging.getLogger(__name__)

#: Augmentations of an epoch, and the resizing among them that ``Preprocess`` does itself.
Changes = tuple[list[Augmentation], list[RandomResize]]


class Loader:
    """Batches of one data set or of several mixed together.

    The order of an epoch depends on ``seed`` and the epoch alone, the augmentation of an image
    on ``seed``, the epoch and the image; so neither the number of workers nor the framework nor an
    interruption changes what a run sees, and the state of a loader is just (epoch, step).

    Args:
        datasets: one data set, or several; labels stay those of each set, and
            ``Batch.dataset_ids`` says which set an image comes from.
        preprocess: how a picture becomes an input.
        batch_size: images in a batch, of all shards together where they share it.
        augmentations: applied in this order before ``preprocess``; ``FirstEpochs`` lets one rest.
        shuffle: whether the order changes from epoch to epoch.
        seed: of order and augmentation.
        group_by_aspect_ratio: batches of similar shape, see :func:`plan_batches`.
        drop_last: leave out a last batch that is not full.
        num_workers: threads that read ahead; 0 reads in the caller's thread.
        shard: ``(index, number)``. When shuffled or grouped, as for training, each batch is shared
            out: a shard gets its part, and ``Batch.part`` says which. Otherwise, as for
            evaluation, each shard gets batches of its own.
        on_bad: what to do with an image that cannot be read or has another size than its
            annotation: "error" raises ``UserError`` with the name of the file; "skip" warns once
            and leaves it out of its batch. A batch left with no image is replaced, when shuffled
            or grouped, by the next readable one of the epoch, so that the number of steps stays
            the same; otherwise it is passed over, so that evaluation counts no image twice.
        cache_images: keep decoded pictures in memory.
        cache_gigabytes: limit of that memory; what does not fit is decoded each time.
        skip_empty: leave out images without a box that can be learnt.
        min_box_size: boxes with a side below this many pixels of the original are dropped.
        stall_seconds: warn when no batch has come for so long, see :class:`StallWatch`.
        stall_error_seconds: give up with ``RunFailedError`` after so long; 0 waits on.

    Raises:
        ValueError: an argument out of range.
        UserError: no images.
    """

    def __init__(
        self,
        datasets: DetectionDataset | Sequence[DetectionDataset],
        preprocess: Preprocess,
        batch_size: int,
        *,
        augmentations: Sequence[Augmentation | FirstEpochs] = (),
        shuffle: bool = False,
        seed: int = 0,
        group_by_aspect_ratio: bool = False,
        drop_last: bool = False,
        num_workers: int = 0,
        shard: tuple[int, int] = (0, 1),
        on_bad: str = "error",
        cache_images: bool = False,
        cache_gigabytes: float = 4.0,
        skip_empty: bool = False,
        min_box_size: float = 1.0,
        stall_seconds: float = 60.0,
        stall_error_seconds: float = 0.0,
    ) -> None:
        check_on_bad(on_bad)
        _at_least("batch_size", batch_size, 1)
        _at_least("num_workers", num_workers, 0)
        if not 0 <= shard[0] < shard[1]:
            raise ValueError(
                "Invalid value for `shard`. Expected (index, number) with 0 <= index < number. "
                f"Received {shard!r}."
            )
        self._shared = (shuffle or group_by_aspect_ratio) and shard[1] > 1
        if self._shared and batch_size < shard[1]:
            raise UserError(
                f"Invalid value for `batch_size`. Expected {shard[1]} images or more, one for each "
                f"rank that shares a batch. Received {batch_size}."
            )
        self.datasets = (datasets,) if isinstance(datasets, DetectionDataset) else tuple(datasets)
        self.preprocess, self.batch_size, self.seed = preprocess, batch_size, seed
        self.shuffle, self.drop_last, self.num_workers = shuffle, drop_last, num_workers
        self.group_by_aspect_ratio, self.shard, self.on_bad = group_by_aspect_ratio, shard, on_bad
        self.min_box_size = min_box_size
        self.augmentations = tuple(augmentations)
        _split(active(self.augmentations, 0), preprocess)  # refuses what does not fit
        self._images = [
            (d, i)
            for d, dataset in enumerate(self.datasets)
            for i in range(len(dataset))
            if not skip_empty or len(dataset.targets(i).learnable())
        ]
        if not self._images:
            names = ", ".join(d.name for d in self.datasets) or "none"
            raise UserError(f"No images to load. Received data sets: {names}.")
        if drop_last and len(self._images) < batch_size:
            raise UserError(
                f"No full batch: {len(self._images)} images, batch size {batch_size}, drop_last. "
                "Expected a smaller batch or drop_last off."
            )
        with_some = [bool(d.proposals) for d in self.datasets]
        if any(with_some) and not all(with_some):
            lacking = self.datasets[with_some.index(False)].name
            raise UserError(
                "Invalid value for `proposals`. Expected them for all data sets that are mixed, or "
                f"for none. Received none for {lacking}."
            )
        columns = {boxes.shape[1] for dataset in self.datasets for boxes in dataset.proposals}
        if len(columns) > 1:
            raise UserError(
                "Invalid value for `proposals`. Expected scores for all data sets that are mixed, "
                "or for none. Received some with and some without."
            )
        self.watch = StallWatch(stall_seconds, stall_error_seconds)
        self._cache = ImageCache(int(cache_gigabytes * 1e9) if cache_images else 0)
        self._ratios = (
            [self.datasets[d].aspect_ratio(i) for d, i in self._images]
            if group_by_aspect_ratio
            else None
        )
        self._left_out: dict[tuple[int, int], str] = {}

    @property
    def num_images(self) -> int:
        """Images of all data sets that take part."""
        return len(self._images)

    @property
    def left_out(self) -> list[str]:
        """Why images were left out so far, a line for each, with ``on_bad="skip"``."""
        return list(self._left_out.values())

    @property
    def _even(self) -> bool:
        return self.shuffle or self.group_by_aspect_ratio

    def __len__(self) -> int:
        """Batches of which this shard gets some or a part in one epoch, if all can be read."""
        total = count_batches(len(self._images), self.batch_size, self.drop_last)
        index, number = self.shard
        return total if self._even else len(range(index, total, number))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Image numbers of each whole batch of an epoch that this shard takes part in."""
        batches = plan_batches(
            len(self._images),
            self.batch_size,
            seed=self.seed,
            epoch=epoch,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            aspect_ratios=self._ratios,
        )
        return batches if self._even else batches[self.shard[0] :: self.shard[1]]

    def epoch(self, epoch: int, start_step: int = 0) -> BatchIterator:
        """Batches ``start_step`` to the end of an epoch.

        The iterator may be left at any point; ``close()`` it, or use it in a ``with`` block, to
        stop its threads at once.

        Raises:
            ValueError: negative epoch, or a step beyond the end.
        """
        _at_least("epoch", epoch, 0)
        if not 0 <= start_step <= len(self):
            raise ValueError(
                f"Invalid value for `start_step`. Expected 0 to {len(self)}. "
                f"Received {start_step!r}."
            )
        plan = self.plan(epoch)
        changes = _split(active(self.augmentations, epoch), self.preprocess)
        return BatchIterator(
            lambda step: self._load(plan, epoch, start_step + step, changes),
            len(plan) - start_step,
            self.num_workers,
            self.watch,
        )

    def endless(self) -> Iterator[Batch]:
        """Epoch after epoch; ``close()`` it to stop the threads."""
        for epoch in itertools.count():
            with self.epoch(epoch) as batches:
                yield from batches

    def __iter__(self) -> Iterator[Batch]:
        """Epoch 0, for evaluation."""
        return self.epoch(0)

    def _load(
        self, plan: list[np.ndarray], epoch: int, step: int, changes: Changes
    ) -> Batch | None:
        for ahead in range(len(plan) if self._even else 1):
            numbers, part = plan[(step + ahead) % len(plan)], None
            if self._shared:
                numbers, part = take_part(numbers, self.shard)
            samples = self._samples(numbers, epoch, changes)
            if part is not None and not samples:
                # None of its own can be read: an image of another part stands in, if any can.
                whole = plan[(step + ahead) % len(plan)]
                samples = self._samples(whole, epoch, changes)[:1]
                part = Part(0, len(whole), stands_in=True)
            if samples:
                return dataclasses.replace(self.preprocess.collate(samples), part=part)
        if not self._even:
            return None
        names = ", ".join(d.name for d in self.datasets)
        raise UserError(f"No image of {names} can be read.")

    def _samples(self, numbers: np.ndarray, epoch: int, changes: Changes) -> list[Sample]:
        found = (self._watched(int(n), epoch, changes) for n in numbers)
        return [sample for sample in found if sample is not None]

    def _watched(self, number: int, epoch: int, changes: Changes) -> Sample | None:
        dataset_id, index = self._images[number]
        with self.watch.reading(self.datasets[dataset_id].images[index].path):
            return self._sample(number, epoch, changes)

    def _sample(self, number: int, epoch: int, changes: Changes) -> Sample | None:
        dataset_id, index = self._images[number]
        dataset = self.datasets[dataset_id]
        try:
            image = self._cache.get((dataset_id, index), lambda: dataset.read(index))
        except UserError as error:
            if self.on_bad == "error":
                raise
            if (dataset_id, index) not in self._left_out:
                self._left_out[dataset_id, index] = str(error)
                logger.warning("Image left out: %s", error)
            return None
        original = (image.shape[0], image.shape[1])
        targets = dataset.targets(index)
        if dataset.proposals:
            targets = with_proposals(targets, dataset.proposals[index])
        targets = clip_targets(targets, original, self.min_box_size)
        rng = stream(self.seed, "augment", epoch, number)
        augmentations, resizes = changes
        min_size = None
        for resize in resizes:
            min_size = resize.draw(rng)
        for augment in augmentations:
            image, targets = augment(image, targets, rng)
        before = (image.shape[0], image.shape[1])
        chw, size, (sy, sx) = self.preprocess.apply(image, min_size=min_size)
        targets = clip_targets(scale_targets(targets, (sy, sx)), size, 0.0)
        proposals = None
        if dataset.proposals:
            targets, proposals = without_proposals(targets, dataset.proposals[index])
        return Sample(
            image=chw,
            original_size=original,
            scale=(sy * before[0] / original[0], sx * before[1] / original[1]),
            targets=targets,
            image_id=dataset.images[index].id,
            dataset_id=dataset_id,
            proposals=proposals,
        )


def _split(augmentations: Sequence[Augmentation], preprocess: Preprocess) -> Changes:
    """Separates the resizing that ``preprocess`` itself can do."""
    resizes = [a for a in augmentations if isinstance(a, RandomResize)]
    if resizes and preprocess.resize == "fixed":
        raise ValueError(
            "Invalid value for `augmentations`. Expected no RandomResize with "
            "resize='fixed', which would undo it. Received one."
        )
    if preprocess.resize not in SIDE_RULES:
        return list(augmentations), []
    return [a for a in augmentations if not isinstance(a, RandomResize)], resizes


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise ValueError(f"Invalid value for `{name}`. Expected {low} or more. Received {value!r}.")
