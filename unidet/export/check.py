"""An exported file beside the model that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.certificate.certificate import DetectionMatch, Thresholds
from unidet.certificate.differences import match_detections
from unidet.data.images import read_image
from unidet.export.detector import OnnxDetector
from unidet.models.base import example_proposals
from unidet.structures import Batch

#: Runtimes add up in other orders than PyTorch, which folds no norm into a convolution.
LIMITS = Thresholds(boxes=0.05, scores=1e-3)


def compare(
    exported: OnnxDetector, model: Any, batches: Sequence[Batch], limits: Thresholds = LIMITS
) -> list[DetectionMatch]:
    """Detections of the file and of the model, matched, for one image after the other.

    Args:
        exported: the file.
        model: of either backend, in evaluation mode.
        batches: one image each, with proposals for a model that takes them.
        limits: largest differences that pass.
    """
    found = []
    for number, batch in enumerate(batches):
        with ops.no_grad():
            wanted = model.predict(model.run(batch), batch)[0]
        given = batch.proposals[0] if len(batch.proposals) else None
        got = exported.run(batch.images, batch.image_sizes[0], batch.scales[0], given)
        found.append(match_detections(number, wanted, got, limits))
    return found


def photo_batches(model: Any, photos: Sequence[np.ndarray | str | Path]) -> list[Batch]:
    """Photos as :func:`compare` wants them; boxes all over them where the model takes proposals.

    Raises:
        UserError: a photo that cannot be read.
    """
    batches = []
    for photo in photos:
        batch = model.preprocess.batch([read_image(photo)])
        batch.proposals = example_proposals(model, batch.image_sizes)
        batches.append(batch)
    return batches
