"""Iteration over batches that threads prepare ahead."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType, TracebackType
from typing import Any

from unidet.data.stall import Puller, StallWatch
from unidet.structures import Batch


class BatchIterator(Iterator[Batch]):
    """Runs ``load(0), load(1), ...`` through grain, in order, read ahead by threads.

    Steps for which ``load`` returns nothing are passed over.

    Args:
        load: makes the batch of a step.
        length: number of steps.
        num_workers: threads that read ahead; 0 reads when a batch is asked for.
        watch: says when a batch does not come; such a wait can be interrupted.
    """

    def __init__(
        self,
        load: Callable[[int], Batch | None],
        length: int,
        num_workers: int,
        watch: StallWatch | None = None,
    ) -> None:
        self._source = _grain_iterator(load, length, num_workers) if length else None
        if self._source is not None and watch is not None and watch.active:
            self._source = Puller(self._source, watch)
        _open.add(self)

    def __next__(self) -> Batch:
        if self._source is None:
            raise StopIteration
        try:
            batch: Batch = next(self._source)
        except BaseException:
            self.close()
            raise
        return batch

    def close(self) -> None:
        """Stops the threads; further calls of ``next`` end the iteration."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def __enter__(self) -> BatchIterator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


_open: weakref.WeakSet[BatchIterator] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # A pool that is still filling at exit would complain about the interpreter's shutdown.
    for iterator in list(_open):
        iterator.close()


def _grain_iterator(load: Callable[[int], Batch | None], length: int, num_workers: int) -> Any:
    grain = _import_grain()
    options = grain.ReadOptions(num_threads=num_workers, prefetch_buffer_size=2 * num_workers)
    source = grain.MapDataset.range(length).map(load)
    return iter(source.to_iter_dataset(read_options=options))


def _import_grain() -> ModuleType:
    # Imported late because it is slow; it warns through absl that an optional profiler is missing.
    import absl.logging

    level = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        import grain  # type: ignore[import-untyped]
    finally:
        absl.logging.set_verbosity(level)
    module: ModuleType = grain
    return module
