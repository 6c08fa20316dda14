"""Computes the proposals of a model, for other models to classify."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.errors import UserError
from unidet.evaluation.run import evaluation_mode, predictions
from unidet.models.base import DetectionModel
from unidet.structures import Batch

#: What is written down: final detections, or proposals of a region proposal network.
STAGES = ("detections", "rpn")


def choose_stage(model: DetectionModel, stage: str | None = None) -> str:
    """The stage whose boxes are proposals.

    Args:
        model: a detector.
        stage: one of :data:`STAGES`; by default the detections of a model of one class, and the
            proposals of the network's first stage elsewhere.

    Raises:
        UserError: the model has no such stage.
    """
    makes = model.makes_proposals
    names = model.class_names
    count = len(names) if names else model.config["arguments"].get("num_classes")
    if stage == "rpn" and not makes:
        raise UserError(
            "Invalid value for `stage`. Expected 'detections', because the model has no region "
            "proposal network. Received 'rpn'."
        )
    if stage is None and not makes and count != 1:
        raise UserError(
            "Invalid checkpoint. Expected a model of one class or with a region proposal network. "
            f"Received {model.config['name']} with {count} classes; its detections of all classes "
            "are proposals with --stage detections."
        )
    return stage or ("detections" if count == 1 else "rpn")


def propose(
    model: Any,
    loader: Iterable[Batch],
    *,
    stage: str,
    score_threshold: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> dict[int, np.ndarray]:
    """Proposals of each image.

    Args:
        model: a model of either backend; left in the mode it came in.
        loader: every image once.
        stage: see :func:`choose_stage`.
        score_threshold: lower scores are left out.
        progress: called after each batch with the number of images done.

    Returns:
        ``(n, 5)`` float32 of each image id in the loader's order: corners in pixels of the
        original and score, by falling score.
    """
    found: dict[int, np.ndarray] = {}
    boxes = _detections(model, loader) if stage == "detections" else _first_stage(model, loader)
    for batch, rows in boxes:
        for image_id, own in zip(batch.image_ids, rows):
            kept = own[own[:, 4] >= score_threshold]
            found[int(image_id)] = kept[np.argsort(-kept[:, 4], kind="stable")]
        if progress is not None:
            progress(len(found))
    return found


def _detections(model: Any, loader: Iterable[Batch]) -> Iterator[tuple[Batch, list[np.ndarray]]]:
    for batch, found in predictions(model, loader):
        yield batch, [np.column_stack([one.boxes_xyxy, one.scores]) for one in found]


def _first_stage(model: Any, loader: Iterable[Batch]) -> Iterator[tuple[Batch, list[np.ndarray]]]:
    like = next(iter(nn.parameters(model).values()))
    with evaluation_mode(model):
        for batch in loader:
            # With no boxes to look at, the second stage costs nothing.
            none = [np.zeros((0, 4), np.float32)] * len(batch)
            with ops.no_grad():
                outputs = model.run(batch, like=like, proposals=none)
                boxes, scores = model.propose(outputs)
            factors = [np.array([sx, sy, sx, sy], np.float32) for sy, sx in batch.scales]
            yield (
                batch,
                [np.column_stack([b / f, s]) for b, f, s in zip(boxes, factors, scores)],
            )
