"""Which images form which batch: a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unidet.backends.random import stream


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


def take_shard(
    batches: list[np.ndarray], shard: tuple[int, int], *, even: bool
) -> list[np.ndarray]:
    """Every ``n``-th batch, starting with the ``i``-th, for ``shard = (i, n)``.

    With ``even``, shards have the same length, because training steps are taken together: the
    first batches are used again to fill up. Otherwise each batch belongs to one shard only.
    """
    index, number = shard
    if even and batches:
        length = -(-len(batches) // number)
        return [batches[(index + k * number) % len(batches)] for k in range(length)]
    return batches[index::number]
