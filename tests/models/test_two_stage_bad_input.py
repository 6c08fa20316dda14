"""Pictures and numbers that a two-stage model meets once in a million, and must survive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unidet.backends import available, nn, ops
from unidet.detector import Detector
from unidet.models import create_model
from unidet.structures import Targets

SMALL = {
    "num_classes": 3,
    "fpn_channels": 16,
    "head_channels": 32,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "rpn_batch": 32,
    "roi_batch": 16,
    "rpn_pre_nms_test": 60,
    "rpn_post_nms_train": 40,
    "rpn_post_nms_test": 20,
    "score_threshold": 0.0,
    "norm_eval": True,
    "preprocess": {"resize": "none", "pad_divisor": 32},
}


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("divisor", [1, 32])
def test_one_pixel(backend: str, divisor: int) -> None:
    own = {**SMALL, "preprocess": {"resize": "none", "pad_divisor": divisor}}
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **own)
    found = Detector.from_model(model)(pixels(1, 1), score_threshold=0.0)
    assert len(found) and np.isfinite(found.boxes_xyxy).all()
    assert found.boxes_xyxy.min() >= 0 and found.boxes_xyxy.max() <= 1
    if divisor == 1:
        return
    batch = model.preprocess.batch([pixels(1, 1)])
    batch.targets = [Targets(np.array([[0, 0, 1, 1]], np.float32), np.array([2]))]
    model.train()
    losses = model.losses(model.run(batch), batch.targets)
    assert np.isfinite([float(ops.item(value)) for value in losses.values()]).all()


@pytest.mark.parametrize("rule", ["mmdet", "torchvision", "detectron2"])
def test_a_panorama_keeps_its_shape_through_preprocessing(rule: str) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=available()[0], seed=None, **{
        **SMALL, "preprocess": {"resize": rule, "min_size": 200, "max_size": 333}
    })  # fmt: skip
    batch = model.preprocess.batch([pixels(40, 8000)])
    (height, width), (sy, sx) = batch.image_sizes[0], batch.scales[0]
    assert 1 <= height <= 2 and 332 <= width <= 334
    assert sx * 8000 == pytest.approx(width) and sy * 40 == pytest.approx(height)


def test_a_panorama_is_detected_in(backend: str) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **SMALL)
    batch = model.preprocess.batch([pixels(20, 8000)])
    with ops.no_grad():
        outputs = model.run(batch)
    proposals = outputs["proposals"][0]
    assert len(proposals) == 20 and proposals[:, 3].max() <= 20 and proposals[:, 2].max() <= 8000
    anchors = model.anchors.all_levels(*outputs["layout"])
    assert len(anchors) == ops.shape(outputs["rpn_logits"])[1] and anchors[:, 2].max() > 7900
    found = model.predict(outputs, batch)[0]
    assert len(found) and np.isfinite(found.boxes_xyxy).all()
    assert found.boxes_xyxy[:, 3].max() <= 20 and found.boxes_xyxy[:, 2].max() <= 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone.conv1.weight", np.nan),
        ("rpn.box_out.bias", np.nan),
        ("rpn.box_out.bias", np.inf),
        ("head.cls_out.bias", np.nan),
        ("head.box_out.bias", np.nan),
        ("head.box_out.bias", -np.inf),
    ],
)
@pytest.mark.filterwarnings("ignore:.*encountered.*:RuntimeWarning")
def test_weights_that_diverged_crash_nothing(backend: str, name: str, value: float) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **SMALL)
    arrays = nn.state_arrays(model)
    nn.load_arrays(model, {**arrays, name: np.full_like(arrays[name], value)})
    batch = model.preprocess.batch([pixels(64, 96)])
    with ops.no_grad():
        outputs = model.run(batch)
        found = model.predict(outputs, batch)[0]
    assert np.isfinite(outputs["proposals"][0]).all()
    assert np.isfinite(found.boxes_xyxy).all() and np.isfinite(found.scores).all()
    if not name.startswith("rpn") and not np.isinf(value):
        assert not len(found)
    # In training the loss says so; only the part that is broken may.
    batch.targets = [Targets(np.array([[4, 6, 50, 60]], np.float32), np.array([1]))]
    model.train()
    losses: dict[str, Any] = model.losses(model.run(batch), batch.targets)
    values = {key: float(ops.item(one)) for key, one in losses.items()}
    assert not np.isfinite(sum(values.values())), values


@pytest.mark.parametrize("box", [[-500, -400, -100, -50], [200, 200, 900, 800], [-1e6, 0, 1e6, 9]])
def test_proposals_outside_the_image(backend: str, box: list[float]) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **SMALL)
    batch = model.preprocess.batch([pixels(64, 96)])
    given = [np.array([box, [10, 10, 40, 40]], np.float32)]
    with ops.no_grad():
        outputs = model.run(batch, proposals=given)
    np.testing.assert_array_equal(outputs["proposals"][0], given[0])
    assert np.isfinite(ops.to_numpy(outputs["cls_logits"])).all()
    found = model.predict(outputs, batch)[0]
    assert len(found) and found.boxes_xyxy.min() >= 0
    assert (found.boxes_xyxy <= [96, 64, 96, 64]).all()
    given[0][0, 2] = np.nan
    with pytest.raises(ValueError, match=r"`proposals`.*finite numbers"):
        model.run(batch, proposals=given)
