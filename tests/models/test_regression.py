"""The loss of coded boxes, by the name that configs give it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unidet.backends import ops
from unidet.losses import BOX_LOSSES
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.regression import regression_loss
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.retinanet.config import RetinaNetConfig

CODER = BoxCoder((0.1, 0.1, 0.2, 0.2))
ANCHORS = np.array([(0, 0, 10, 20), (5, 5, 15, 15), (40, 10, 60, 30)], np.float32)
BOXES = np.array([(1, 2, 9, 22), (4, 5, 12, 19), (20, 10, 30, 60)], np.float32)


def goal() -> Any:
    return SimpleNamespace(anchors=ANCHORS, boxes=BOXES, deltas=CODER.encode(BOXES, ANCHORS))


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_boxes_are_compared(backend: str, kind: str) -> None:
    zeros = ops.zeros((3, 4), backend=backend)
    found = ops.to_numpy(regression_loss(zeros, goal(), kind, 1.0, CODER))
    wanted = BOX_LOSSES[kind](ANCHORS, BOXES)
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
    right = ops.asarray(goal().deltas, backend=backend)
    assert np.abs(ops.to_numpy(regression_loss(right, goal(), kind, 1.0, CODER))).max() < 1e-5


def test_deltas_are_compared(backend: str) -> None:
    zeros = ops.zeros((3, 4), backend=backend)
    distance = np.abs(goal().deltas)
    found = ops.to_numpy(regression_loss(zeros, goal(), "l1", 1.0, CODER))
    np.testing.assert_allclose(found, distance, 1e-6)
    beta = 2.0
    smooth = np.where(distance < beta, distance**2 / (2 * beta), distance - beta / 2)
    found = ops.to_numpy(regression_loss(zeros, goal(), "smooth_l1", beta, CODER))
    np.testing.assert_allclose(found, smooth, 1e-5)


@pytest.mark.parametrize(
    ("config", "needed"),
    [(RetinaNetConfig, {}), (FasterRCNNConfig, {"style": "fpn"})],
)
def test_configs_know_all_losses(config: Any, needed: dict[str, Any]) -> None:
    for kind in ("l1", "smooth_l1", *BOX_LOSSES):
        assert config(num_classes=3, depth=18, box_loss=kind, **needed).box_loss == kind
    with pytest.raises(ValueError, match="box_loss"):
        config(num_classes=3, depth=18, box_loss="iou", **needed)
