"""Which anchors or proposals of an image enter the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unidet.models.boxes.matcher import BACKGROUND


@dataclass(frozen=True)
class RandomSampler:
    """A fixed number, positives up to a share of it, filled up with background (Girshick 2015).

    Attributes:
        size: of the sample.
        positive_fraction: largest share of positives.
    """

    size: int
    positive_fraction: float

    def __call__(
        self, matched: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws without replacement. Where all fit, nothing is drawn from the generator.

        Args:
            matched: ``(n,)``, of ``Matcher``: an object, ``BACKGROUND`` or ``IGNORED``.
            generator: of the place, see :func:`unidet.backends.random.stream`.

        Returns:
            Rising int64 indices of positives and of background.
        """
        positive = np.flatnonzero(matched >= 0)
        negative = np.flatnonzero(matched == BACKGROUND)
        positive = _draw(positive, int(self.size * self.positive_fraction), generator)
        return positive, _draw(negative, self.size - len(positive), generator)


def _draw(index: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    if len(index) <= count:
        return index
    return np.sort(generator.choice(index, count, replace=False))
