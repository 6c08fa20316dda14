"""Certificates of UniDetector's models: both forms of the classifier, and the first stage."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.backends import available, nn
from unidet.certificate.certify import build, certify, check, fixed_batch, record
from unidet.cli.main import main

HERE = available()[0]
TINY = {
    "num_classes": 5,
    "clip_layers": [1, 1, 1, 1],
    "clip_width": 16,
    "embedding_dim": 32,
    "roi_size": 8,
    "roi_batch": 16,
}
FEW = {"rpn_batch": 32, "rpn_post_nms_train": 40, "rpn_post_nms_test": 20}
CONFIGS: dict[str, dict[str, Any]] = {
    "e2e": {
        "name": "unidetector_e2e_r50_c4",
        "arguments": {**TINY, **FEW, "anchor_sizes": [[16, 32, 64]]},
    },
    "stage2": {
        "name": "unidetector_stage2_r50_c4",
        "arguments": {
            **TINY,
            "beta": 0.3,
            "gamma": 0.6,
            "class_prior": [50, 3, 0, 7, 9],
            # Room for all: equal scores at the cut would leave the choice to chance.
            "max_detections": 400,
        },
    },
    "partitioned": {
        "name": "unidetector_stage2_r50_c4",
        "arguments": {**TINY, "vocabulary_sizes": [3, 5], "federated_classes": 4},
    },
    "cln": {
        "name": "unidetector_cln_r18_fpn",
        "arguments": {
            "fpn_channels": 16,
            "head_channels": 32,
            "anchor_sizes": [[8], [16], [32], [64], [128]],
            "rpn_batch": 32,
            "roi_batch": 16,
            "rpn_pre_nms_train": 20,
            "rpn_pre_nms_test": 20,
        },
    },
}
LAYERS = {
    "e2e": {"rpn.box_out", "head.layer4.0", "head.attnpool", "head.box_out"},
    "stage2": {"backbone.layer3.0", "head.attnpool.c_proj", "head.box_out"},
    "partitioned": {"backbone.layer3.0", "head.attnpool.c_proj", "head.box_out"},
    "cln": {"neck.output.0", "rpn.quality_out", "head.quality_out"},
}
LOSSES = {
    "e2e": {"loss_rpn_cls", "loss_rpn_box", "loss_cls", "loss_box"},
    "stage2": {"loss_cls", "loss_box"},
    "partitioned": {"loss_cls", "loss_box"},
    "cln": {"loss_rpn_box", "loss_rpn_quality", "loss_cls", "loss_box", "loss_quality"},
}


@functools.lru_cache
def weights(kind: str) -> dict[str, np.ndarray]:
    """Seeded weights whose boxes and proposals are spread out."""
    arrays = nn.state_arrays(build(CONFIGS[kind], None, HERE))
    for name in ("rpn.cls_out.weight", "rpn.quality_out.weight", "head.quality_out.weight"):
        if name in arrays:
            arrays[name] = arrays[name] * np.float32(20)
    return arrays


def batch_of(kind: str) -> Any:
    return fixed_batch(build(CONFIGS[kind], weights(kind), HERE), size=(64, 96))


@pytest.mark.parametrize("kind", CONFIGS)
def test_two_backends_agree(both: None, kind: str) -> None:
    certificate = certify(CONFIGS[kind], weights(kind), batch=batch_of(kind))
    assert certificate.failures() == []
    assert certificate.passed and certificate.notes == []
    assert max(layer.max_abs for layer in certificate.layers) > 0, "both sides are one framework"
    assert {layer.name for layer in certificate.layers} >= LAYERS[kind]
    assert {loss.name for loss in certificate.losses} == LOSSES[kind]
    assert all(loss.reference > 0 for loss in certificate.losses)
    logits = next(output for output in certificate.outputs if output.name == "cls_logits")
    assert logits.scale > 1e-3
    assert sum(d.matched for d in certificate.detections) > 5
    trainable = nn.trainable(build(CONFIGS[kind], None, HERE))
    assert {g.name for g in certificate.gradients} == set(trainable)


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("e2e", "head.layer4.0.conv2"),
        ("stage2", "head.attnpool.v_proj"),
        ("partitioned", "backbone.layer2.0.downsample.0"),
        ("cln", "rpn.quality_out"),
        ("cln", "head.quality_out"),
    ],
)
def test_a_fault_in_one_layer_is_found(tmp_path: Path, kind: str, layer: str) -> None:
    batch = batch_of(kind)
    path = tmp_path / "side.npz"
    record(build(CONFIGS[kind], weights(kind), HERE), batch, path, gradients=False)
    faulty = dict(weights(kind))
    faulty[f"{layer}.weight"] = faulty[f"{layer}.weight"] * np.float32(1.01)
    certificate = check(build(CONFIGS[kind], faulty, HERE), path, batch=batch)
    assert not certificate.passed
    assert certificate.first_departure == layer
    assert [w.name for w in certificate.weights if not w.ok] == [f"{layer}.weight"]


def test_another_vocabulary_departs_in_the_head(tmp_path: Path) -> None:
    """The head alone reads the text; its first output is the logits."""
    batch = batch_of("stage2")
    path = tmp_path / "side.npz"
    record(build(CONFIGS["stage2"], weights("stage2"), HERE), batch, path, gradients=False)
    text = weights("stage2")["head.text_embeddings"].copy()
    text[0, 2] += 0.1
    other = {**weights("stage2"), "head.text_embeddings": text}
    certificate = check(build(CONFIGS["stage2"], other, HERE), path, batch=batch)
    assert certificate.first_departure == "head.0" and not certificate.passed
    assert [output.name for output in certificate.outputs if not output.ok] == ["cls_logits"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_recording_holds_all_that_the_other_side_needs(tmp_path: Path, kind: str) -> None:
    """Scores of given proposals too, without which ``beta`` has no meaning."""
    path = tmp_path / "side.npz"
    record(build(CONFIGS[kind], weights(kind), HERE), batch_of(kind), path, config=CONFIGS[kind])
    certificate = check(build(CONFIGS[kind], weights(kind), HERE), path)
    assert certificate.failures() == []
    assert max(layer.max_abs for layer in certificate.layers) == 0
    assert all(loss.relative == 0 for loss in certificate.losses)


def test_a_fresh_model_compares_with_texts_of_the_seed() -> None:
    one, same, other = (
        nn.state_arrays(build(CONFIGS["partitioned"], None, HERE, seed=seed)) for seed in (3, 3, 4)
    )
    for name in ("head.text_embeddings_0", "head.text_embeddings_1"):
        assert one[name][:, :-1].all() and not one[name][:, -1].any()
        assert np.array_equal(one[name], same[name]) and not np.array_equal(one[name], other[name])


def test_the_fixed_batch_has_an_image_of_every_vocabulary() -> None:
    sizes = {"vocabulary_sizes": [2, 40], "num_classes": 40}
    config = {**CONFIGS["partitioned"], "arguments": {**TINY, **sizes}}
    model = build(config, None, HERE)
    batch = fixed_batch(model, images=6, size=(64, 96))
    assert batch.dataset_ids == [0, 1] * 3
    labels = [np.concatenate([t.labels for t in batch.targets[i::2]]) for i in range(2)]
    assert labels[0].max() < 2 <= labels[1].max() < 40
    assert batch.proposals[0].shape == (34, 5)
    assert (np.diff(batch.proposals[0][:, 4]) < 0).all()
    assert model.run(dataclasses.replace(batch))["dataset_ids"] == [0, 1] * 3


def test_the_command_with_a_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that makes no proposals is given some."""
    from unidet.visualization import write_image

    photo = tmp_path / "photo.png"
    write_image(photo, np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    small = {"resize": "fixed", "size": [64, 96]}
    arguments = {**CONFIGS["stage2"]["arguments"], "preprocess": small}
    path = tmp_path / "stage2.yaml"
    chosen = {
        "model": {"name": CONFIGS["stage2"]["name"], "arguments": arguments},
        "data": {"train": {"annotations": "none.json", "images": "none"}},
    }
    path.write_text(json.dumps(chosen))  # JSON is YAML
    out = tmp_path / "photo.parity.json"
    words = ["--image", str(photo), "--json", str(out), "--backends", f"{HERE},{HERE}"]
    assert main(["parity", str(path), *words]) == 0, capsys.readouterr()
    found = json.loads(out.read_text())
    assert found["verdict"] == "PASS" and found["detections"][0]["matched"] > 5
