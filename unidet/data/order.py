"""Order of the images in batches: a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unidet.backends.random import stream
from unidet.structures import Part


def plan_batches(
    count: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool,
    drop_last: bool,
    aspect_ratios: Sequence[float] | None = None,
) -> list[np.ndarray]:
    """Indices of each batch of an epoch, for all shards together.

    With ``aspect_ratios`` images are sorted by them and cut into runs whose membership never
    changes; the last run is filled up from the beginning, or dropped; ``shuffle`` mixes the order
    of the runs (yhenon's sampler). Without, images are mixed and the last batch may be short.

    Args:
        count: number of images.
        batch_size: images in a batch.
        seed: of the run.
        epoch: from 0.
        shuffle: whether the order changes from epoch to epoch.
        drop_last: leave a short last batch out.
        aspect_ratios: width over height of each image.
    """
    rng = stream(seed, "order", epoch)
    if aspect_ratios is None:
        order = rng.permutation(count) if shuffle else np.arange(count)
    else:
        order = np.argsort(np.asarray(aspect_ratios, np.float64), kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, count, batch_size)]
    if batches and len(batches[-1]) < batch_size:
        if drop_last:
            batches.pop()
        elif aspect_ratios is not None:
            batches[-1] = np.resize(np.roll(order, -(len(batches) - 1) * batch_size), batch_size)
    if aspect_ratios is not None and shuffle:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def count_batches(count: int, batch_size: int, drop_last: bool) -> int:
    """Batches of an epoch, for all shards together."""
    return count // batch_size if drop_last else -(-count // batch_size)


def take_part(batch: np.ndarray, shard: tuple[int, int]) -> tuple[np.ndarray, Part]:
    """The ``i``-th of ``n`` parts of a batch, as equal as can be, for ``shard = (i, n)``.

    Where the batch has no image for a part, its first stands in, because all shards take their
    steps together.
    """
    index, number = shard
    first, stop = (len(batch) * i // number for i in (index, index + 1))
    if first == stop:
        return batch[:1], Part(0, len(batch), stands_in=True)
    return batch[first:stop], Part(first, len(batch))
