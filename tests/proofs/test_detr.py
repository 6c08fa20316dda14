"""DETR on real photos: torch against Jittor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden
from tests.proofs.curves import check_overlay
from unidet.backends import nn
from unidet.certificate.certificate import Thresholds
from unidet.certificate.certify import build, certify
from unidet.config import Config, from_mapping
from unidet.data import Loader, load_dataset
from unidet.engine import train
from unidet.models import create_model
from unidet.structures import Batch
from unidet.weights_convert import detect_family

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("both")]

PHOTOS = 10
#: Of the curves that are compared, and of the run before them.
STEPS, START = 20, 150
#: Boxes of photos in pixels, as in the proof of Faster R-CNN; all else as in every certificate.
LIMITS = Thresholds(boxes=0.02)
SMALL = {"min_size": 256, "max_size": 400}


def subject(sample_data: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and weights of full size."""
    mapped = detect_family(golden := Golden(sample_data, "fb_detr_r50").state()).to_native(golden)
    arguments = dict(mapped.description["arguments"])
    arguments["preprocess"] = {**arguments.get("preprocess", {}), **SMALL}
    return {"name": mapped.description["name"], "arguments": arguments}, mapped.arrays


def photos(sample_data: Path, model: Any, size: int) -> list[Batch]:
    root = sample_data / "data" / "coco_tiny"
    spec = {
        "format": "coco",
        "annotations": root / "annotations" / "instances_val.json",
        "images": root / "images",
    }
    with Loader(load_dataset({**spec, "count": PHOTOS}), model.preprocess, size).epoch(0) as found:
        return list(found)


def test_same_weights_give_the_same_numbers(sample_data: Path) -> None:
    """Layers, logits, boxes, detections, losses of all decoder layers, and gradients."""
    config, arrays = subject(sample_data)
    batch = photos(sample_data, build(config, arrays, "torch"), 4)[0]
    assert len(set(batch.image_sizes)) > 1, "one of them has padding"
    certificate = certify(config, arrays, batch=batch, thresholds=LIMITS)
    outputs = {one.name: one for one in certificate.outputs}
    found = certificate.detections
    signal = [one for one in certificate.gradients if not one.negligible]
    print(
        f"\nDETR-50: logits {outputs['cls_logits'].max_abs:.1e}, boxes "
        f"{outputs['boxes_cxcywh'].max_abs:.1e} of the image; {sum(d.matched for d in found)} of "
        f"{sum(d.reference for d in found)} detections matched, boxes "
        f"{max(d.max_box for d in found):.1e} px, scores {max(d.max_score for d in found):.1e}; "
        f"losses {max(one.relative for one in certificate.losses):.1e} relative; smallest cosine "
        f"{1 - min(one.cosine for one in signal):.1e} below 1 of {len(certificate.gradients)} "
        f"({len(certificate.gradients) - len(signal)} negligible)"
    )
    assert certificate.failures() == []
    assert outputs["cls_logits"].max_abs <= 1e-4
    assert outputs["boxes_cxcywh"].max_abs <= 1e-5
    assert len(certificate.losses) == 18
    assert all(loss.relative <= 1e-5 for loss in certificate.losses)
    assert min(one.cosine for one in signal) >= 0.9999
    assert len(signal) > 0.9 * len(certificate.gradients)


def test_the_same_queries_are_matched(sample_data: Path) -> None:
    config, arrays = subject(sample_data)
    sides = []
    for backend in ("torch", "jittor"):
        model = create_model(config["name"], backend=backend, seed=None, **config["arguments"])
        nn.load_arrays(model, arrays)
        goals = [
            model.training_targets(model.run(batch), batch.targets)
            for batch in photos(sample_data, model, 1)
        ]
        sides.append(goals)
    for left, right in zip(*sides):
        np.testing.assert_array_equal(left.index, right.index)
        np.testing.assert_array_equal(left.classes, right.classes)
    pairs = sum(goal.index.size for goal in sides[0])
    print(f"\n{pairs} pairs of query and object, the same on both, in {PHOTOS} photos")
    assert pairs > 100


def run_of(sample_data: Path, count: int, held: bool = True, **more: Any) -> Config:
    """A run of a small DETR on BCCD."""
    training = {"max_steps": count, "epochs": count, "log_every": 1, "eval_every": 0}
    return from_mapping(
        {
            "model": {
                "name": "detr_r18",
                "arguments": {
                    "width": 128,
                    "encoder_layers": 2,
                    "decoder_layers": 3,
                    "feedforward": 256,
                    "num_queries": 40,
                    "norm": "batch",
                    # As in all published recipes, but for the run before.
                    "norm_eval": held,
                    "frozen_stages": -1,
                    # The frameworks draw other masks.
                    "dropout": 0.0,
                    "attention_dropout": 0.0,
                    "activation_dropout": 0.0,
                    "preprocess": {"resize": "fixed", "size": [192, 256]},
                },
            },
            "data": {
                "format": "coco",
                "root": str(sample_data / "data" / "bccd"),
                "train": {
                    "annotations": "annotations/instances_train.json",
                    "images": "images",
                },
                "batch_size": 4,
            },
            "optimizer": {
                "name": "adamw",
                "lr": 1e-5,
                "weight_decay": 1e-4,
                **more.get("optimizer", {}),
            },
            "train": {**training, "seed": 7, "clip_grad_norm": 0.1, **more.get("train", {})},
        }
    )


def test_twenty_steps_of_adamw_overlay(sample_data: Path, tmp_path: Path) -> None:
    """From a state that training has reached, moments included, with torch's matching in each step.

    Adam's first steps without moments take the sign of a gradient, so rounding moves weights by
    whole steps. And matching jumps: where two queries cost the same up to rounding, double
    precision chooses otherwise, too, and the loss moves by 1e-3.
    """
    start = run_of(sample_data, START, held=False, optimizer={"lr": 3e-4})
    train(start, backend="torch", work_dir=tmp_path / "start", quiet=True)
    chosen = run_of(
        sample_data,
        STEPS,
        train={"weights": str(tmp_path / "start" / "last.safetensors")},
    )
    check_overlay(
        "DETR-18", chosen, tmp_path, STEPS, share_samples=True, moments_of=tmp_path / "start"
    )
