"""Small detectors that classify by text, and what tests do with them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.models import create_model
from unidet.structures import Batch, Targets

E2E, STAGE2 = "unidetector_e2e_r50_c4", "unidetector_stage2_r50_c4"
LENGTH = 32
TINY: dict[str, Any] = {
    "clip_layers": (1, 1, 1, 1),
    "clip_width": 16,
    "embedding_dim": LENGTH,
    "roi_size": 8,
    "roi_batch": 32,
    "federated_classes": 4,
}
RPN = {
    "anchor_sizes": ((8.0, 16.0, 32.0),),
    "rpn_batch": 32,
    "rpn_post_nms_train": 30,
    "rpn_post_nms_test": 12,
}
SIZE = (64, 96)
SIZES = (3, 7)


def texts(*sizes: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((size, LENGTH)).astype(np.float32) for size in sizes]


def targets(*rows: tuple[float, ...]) -> Targets:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Targets(table[:, :4].copy(), table[:, 4].astype(np.int64))


OBJECTS = [targets((4, 6, 30, 40, 2), (50, 10, 90, 60, 0)), targets((20, 8, 60, 50, 1))]


def proposals(count: int = 20, seed: int = 0, scores: bool = True) -> list[np.ndarray]:
    """Boxes near the objects and elsewhere, with falling scores."""
    rng = np.random.default_rng(seed)
    given = []
    for target in OBJECTS:
        corner = rng.uniform(0, 40, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 40, (count, 2))], axis=1)
        near = np.tile(target.boxes_xyxy, (3, 1))
        boxes[: len(near)] = near + rng.uniform(-3, 3, near.shape)
        column = np.linspace(0.9, 0.2, count)[:, None]
        given.append((np.hstack([boxes, column]) if scores else boxes).astype(np.float32))
    return given


def batch_of(name: str = STAGE2, ids: tuple[int, ...] = (), **changes: Any) -> Batch:
    images = np.random.default_rng(1).standard_normal((2, 3, *SIZE)).astype(np.float32)
    batch = Batch(images, [SIZE] * 2, [SIZE] * 2, [(1.0, 1.0)] * 2, OBJECTS)
    batch = dataclasses.replace(batch, dataset_ids=list(ids))
    if name == STAGE2:
        batch = dataclasses.replace(batch, proposals=proposals())
    return dataclasses.replace(batch, **changes)


def tiny(name: str, backend: str, **changes: Any) -> Any:
    """One vocabulary of 5 classes unless told otherwise, with random texts."""
    arguments = {**TINY, **(RPN if name == E2E else {}), "num_classes": 5, **changes}
    model = create_model(name, backend=backend, seed=3, **arguments)
    model.set_training_vocabularies(texts(*model.sizes))
    return model


def several(backend: str, **changes: Any) -> Any:
    return tiny(STAGE2, backend, vocabulary_sizes=SIZES, num_classes=max(SIZES), **changes)


def answers(model: Any, batch: Batch) -> dict[str, Any]:
    with ops.no_grad():
        return model.run(batch)
