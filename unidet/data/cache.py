"""Cache of decoded images in memory, up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import numpy as np


class ImageCache:
    """Keeps what fits; nothing is thrown out, so that an epoch in any order profits alike.

    Args:
        limit_bytes: most memory to use; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._images: dict[Hashable, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def get(self, key: Hashable, read: Callable[[], np.ndarray]) -> np.ndarray:
        """The picture of ``key``, read when it is not there; it must not be written to."""
        found = self._images.get(key)
        if found is not None:
            return found
        image = read()
        with self._lock:
            if key not in self._images and self.used_bytes + image.nbytes <= self.limit_bytes:
                image.setflags(write=False)
                self._images[key] = image
                self.used_bytes += image.nbytes
        return image
