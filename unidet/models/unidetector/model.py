"""UniDetector (Wang et al. 2023): a universal detector that classifies by text embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unidet.backends.nn import initial
from unidet.models.faster_rcnn.fast_rcnn import FastRCNN
from unidet.models.faster_rcnn.faster_rcnn import FasterRCNN
from unidet.models.layers.initialization import convolution_shapes
from unidet.models.unidetector.open_vocabulary import OpenVocabulary


class UniDetectorStage2(OpenVocabulary, FastRCNN):
    """Classifies and refines the proposals of a first stage that was trained apart.

    Args:
        config: a :class:`unidet.models.unidetector.config.UniDetectorConfig`, or its arguments.
    """

    family = "unidetector_stage2"


class UniDetector(OpenVocabulary, FasterRCNN):
    """The end-to-end form: a proposal network on C4 and the head that compares with text.

    Args:
        config: a :class:`unidet.models.unidetector.config.UniDetectorConfig`, or its arguments.
    """

    family = "unidetector_e2e"

    @classmethod
    def accepted(cls) -> tuple[str, ...]:
        """Names of the arguments that ``create_model`` takes: none of given proposals."""
        return tuple(name for name in super().accepted() if not name.startswith("max_proposals_"))

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """The proposal network starts from a narrow normal distribution."""
        return {
            name: np.zeros(shape, np.float32)
            if name.endswith(".bias")
            else initial.normal(draw(name), shape, 0.01)
            for name, shape in convolution_shapes(self).items()
            if name.startswith("rpn.")
        }
