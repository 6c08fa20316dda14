"""A classifier's last stage belongs into the head of a detector on C4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unidet.backends import nn, ops
from unidet.checkpoints.load import load_weights
from unidet.engine.setup import load_initial_weights
from unidet.errors import UserError
from unidet.models import create_model
from unidet.weights_convert import write_torch


def test_the_last_stage_of_a_classifier_goes_into_the_head(backend: str, tmp_path: Path) -> None:
    classifier = create_model("resnet50", backend=backend, seed=1, num_classes=4)
    arrays = nn.state_arrays(classifier)
    for name in arrays:
        if name.startswith("layer4.") and name.endswith(("running_mean", "running_var")):
            arrays[name] = arrays[name] + np.float32(0.25)  # not what a fresh norm has
    nn.load_arrays(classifier, arrays)
    path = tmp_path / "resnet50.pth"
    write_torch(path, arrays)
    model = create_model("faster_rcnn_r50_c4", backend=backend, seed=2, num_classes=4)
    fresh = nn.state_arrays(model)
    report = load_weights(model, path, strict=False)
    own = nn.state_arrays(model)
    assert not any(name.startswith("backbone.layer4") for name in own)
    moved = 0
    for name, array in arrays.items():
        if name.startswith("fc."):
            continue
        place = f"backbone.{name}"
        if name.startswith("layer4."):
            place, moved = name.replace("layer4.", "head.res5.", 1), moved + 1
        np.testing.assert_array_equal(own[place], array, err_msg=place)
    assert moved > 50
    for name in ("rpn.cls_out.weight", "head.cls_out.weight", "head.box_out.weight"):
        np.testing.assert_array_equal(own[name], fresh[name])
    missing = {row.target for row in report.with_status("missing")}
    assert missing == {name for name in own if name.startswith(("rpn.", "head.cls", "head.box"))}
    # The head reads a whole map as the classifier does.
    images = ops.asarray(
        np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32),
        backend=backend,
    )
    with ops.no_grad():
        wanted = ops.to_numpy(classifier(images)["pooled"])
        found = ops.to_numpy(model.head.features(model.backbone(images)[-1]))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="missing"):
        load_weights(model, path)
    line = load_initial_weights(create_model("faster_rcnn_r50_c4", backend=backend), str(path))
    assert str(path) in line and "renamed" in line
