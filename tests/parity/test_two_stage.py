"""Certificates of two-stage models: the second stage is compared on the first side's proposals."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.backends import available, nn
from unidet.certificate import Certificate
from unidet.certificate.certify import build, certify, check, fixed_batch, record

HERE = available()[0]
SHARED = {
    "num_classes": 3,
    "fpn_channels": 16,
    "head_channels": 32,
    "roi_batch": 16,
    "score_threshold": 0.05,
    "norm_eval": True,
}
FASTER = {
    "name": "faster_rcnn_r18_fpn",
    "arguments": {
        **SHARED,
        "anchor_sizes": [8, 16, 32, 64, 128],
        "rpn_batch": 32,
        "rpn_post_nms_train": 40,
        "rpn_post_nms_test": 20,
    },
}
FAST = {"name": "fast_rcnn_r18_fpn", "arguments": SHARED}


@functools.lru_cache
def weights(family: str) -> dict[str, np.ndarray]:
    """Seeded weights whose scores are spread out."""
    model = build(FASTER if family == "faster" else FAST, None, HERE)
    arrays = nn.state_arrays(model)
    for name in ("rpn.cls_out.weight", "rpn.box_out.weight", "head.cls_out.weight"):
        if name in arrays:
            arrays[name] = arrays[name] * np.float32(20)
    return arrays


def against(tmp_path: Path, change: Callable[[Any], None]) -> Certificate:
    """A certificate of a model against itself after a change, on images of 64 x 96."""
    arrays = weights("faster")
    reference = build(FASTER, arrays, HERE)
    batch = fixed_batch(reference, size=(64, 96))
    record(reference, batch, tmp_path / "side.npz", config=FASTER)
    candidate = build(FASTER, arrays, HERE)
    change(candidate)
    return check(candidate, tmp_path / "side.npz")


@pytest.mark.parametrize("family", ["faster", "fast"])
def test_two_backends_agree(both: None, family: str) -> None:
    config = FASTER if family == "faster" else FAST
    batch = fixed_batch(build(config, weights(family), HERE), size=(64, 96))
    certificate = certify(config, weights(family), batch=batch)
    assert certificate.failures() == []
    assert certificate.passed and certificate.notes == []
    assert max(layer.max_abs for layer in certificate.layers) > 0, "both sides are one framework"
    names = {loss.name: loss for loss in certificate.losses}
    assert set(names) >= {"loss_cls", "loss_box"}
    assert ("loss_rpn_cls" in names) == (family == "faster")
    assert all(loss.reference > 0 for loss in names.values())
    assert {"head.cls_out", "head.fcs.0"} <= {layer.name for layer in certificate.layers}
    assert sum(d.matched for d in certificate.detections) > 5
    trainable = nn.trainable(build(config, None, HERE))
    assert {g.name for g in certificate.gradients} == set(trainable)


def test_another_order_of_proposals_passes(tmp_path: Path) -> None:
    """Where scores are equal up to rounding, a side may have them in any order."""

    def reverse(model: Any) -> None:
        propose = model.propose

        def reversed_(outputs: Any, train: bool = False) -> Any:
            boxes, scores = propose(outputs, train)
            return [b[::-1].copy() for b in boxes], [s[::-1].copy() for s in scores]

        object.__setattr__(model, "propose", reversed_)

    certificate = against(tmp_path, reverse)
    assert certificate.failures() == [] and certificate.passed
    assert max(layer.max_abs for layer in certificate.layers) == 0
    assert all(loss.relative == 0 for loss in certificate.losses)
    assert min(g.cosine for g in certificate.gradients) == pytest.approx(1)


def test_other_proposals_are_seen_in_the_detections(tmp_path: Path) -> None:
    def fewer(model: Any) -> None:
        model.select_proposals = dataclasses.replace(model.select_proposals, nms_iou=0.05)

    certificate = against(tmp_path, fewer)
    assert all(output.ok for output in certificate.outputs)
    assert not certificate.passed
    assert {d.image for d in certificate.detections if not d.ok}


def test_a_changed_second_stage_fails_and_is_named(tmp_path: Path) -> None:
    def scale(model: Any) -> None:
        arrays = nn.state_arrays(model)
        name = "head.fcs.1.weight"
        nn.load_arrays(model, {**arrays, name: arrays[name] * np.float32(1.01)})

    certificate = against(tmp_path, scale)
    assert certificate.first_departure == "head.fcs.1"
    assert [w.name for w in certificate.weights if not w.ok] == ["head.fcs.1.weight"]
