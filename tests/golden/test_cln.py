"""UniDetector's first stage against the outputs of the official code."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden, as_targets, losses_and_norms, matched_share
from tests.golden.test_unidetector import (
    check_gradients,
    make_batch,
)
from unidet.backends import nn, ops
from unidet.models import create_model
from unidet.structures import Detections
from unidet.weights_convert import FAMILIES

#: A quota that no population reaches, so that nothing is drawn.
ALL = {"rpn_batch": 10**7, "roi_batch": 10**7, "roi_positive_fraction": 0.5}


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("index", [0, 1])
def test_first_stage(sample_data: Path, backend: str, index: int) -> None:
    golden = Golden(sample_data, "unidetector_cln")
    state = golden.state()
    family = FAMILIES["unidetector_cln"]
    mapped = family.to_native(state)
    arguments = {
        **mapped.description["arguments"],
        "rpn_pre_nms_test": 300,
        "rpn_pre_nms_train": 150,
        "max_detections": 400,
        **ALL,
    }
    model = create_model(mapped.description["name"], backend=backend, seed=None, **arguments)
    nn.load_arrays(model, mapped.arrays)
    table = family.form_of({key: value.shape for key, value in state.items()}).table
    batch = make_batch(model, golden, [index])

    seen: dict[str, Any] = {}
    handles = [
        part.register_forward_hook(lambda m, i, output, name=name: seen.__setitem__(name, output))
        for name, part in (("backbone", model.backbone), ("fpn", model.neck))
    ]
    with ops.no_grad():
        outputs = model.run(batch)
    for handle in handles:
        handle.remove()
    for name, maps in seen.items():
        for level, value in enumerate(maps):
            golden.check(f"{index}/{name}{level}", value)
    start = 0
    for level, (height, width) in enumerate(outputs["layout"][1]):
        stop = start + height * width
        for key, name, depth in (("rpn_obj", "rpn_logits", 1), ("rpn_reg", "rpn_deltas", 4)):
            part = ops.to_numpy(outputs[name])[:, start:stop].reshape(1, height, width, depth)
            golden.check(f"{index}/{key}{level}", part.transpose(0, 3, 1, 2))
        start = stop

    stored = golden[f"{index}/proposals"]
    nameless = np.zeros(len(stored), np.int64)
    assert len(outputs["proposals"][0]) == len(stored)
    own = Detections(outputs["proposals"][0], outputs["proposal_scores"][0], nameless)
    assert matched_share(own, stored[:, :4], stored[:, 4], nameless) >= 0.98

    batch.proposals = [stored]
    with ops.no_grad():
        outputs = model.run(batch)
    golden.check(f"{index}/cls_score", outputs["cls_logits"])
    golden.check(f"{index}/bbox_pred", outputs["box_deltas"])
    golden.check(f"{index}/bbox_score", outputs["quality_logits"])
    golden.check(f"{index}/scores_before_nms", model.scores(outputs), atol=2e-3)
    found = model.predict(outputs, batch)[0]
    rows = golden[f"det{index}"]
    assert len(found) == len(rows)
    assert matched_share(found, rows[:, :4], rows[:, 4], np.zeros(len(rows), np.int64)) >= 0.98

    batch.proposals = []
    boxes = golden[f"target{index}/boxes"]
    batch.targets = [as_targets(boxes, np.arange(len(boxes)))]  # labels do not matter
    losses, norms = losses_and_norms(model, batch)
    names = {
        "loss_rpn_box": "loss_rpn_bbox",
        "loss_rpn_quality": "loss_rpn_obj",
        "loss_cls": "loss_cls",
        "loss_box": "loss_bbox",
        "loss_quality": "loss_bbox_score",
    }
    assert set(losses) == set(names)
    for name, key in names.items():
        stored_loss = float(golden[f"loss{index}/{key}"].sum())
        assert losses[name] == pytest.approx(stored_loss, rel=1e-3), name
    check_gradients(golden, f"gradnorm{index}", table, norms)
