"""UniDetector on real photos with real text vectors: torch against Jittor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden
from tests.proofs.curves import check_overlay
from unidet.certificate.certificate import Certificate, Thresholds, read_certificate
from unidet.certificate.certify import build, certify
from unidet.cli.main import main
from unidet.config import Config, from_mapping
from unidet.data import DetectionDataset, Loader, load_dataset
from unidet.data.proposals import write_proposals
from unidet.engine import train
from unidet.models.base import example_proposals
from unidet.structures import Batch
from unidet.weights_convert import FAMILIES, write_torch

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("both")]

PHOTOS = 4
#: Of the curves that are compared.
STEPS = 20
#: Boxes and scores as in the proof of Faster R-CNN; all else as in every certificate.
LIMITS = Thresholds(boxes=0.02, scores=1e-4)
SMALL = {"min_size": 256, "max_size": 400}
#: Peer with weights of full size, and how much of the work is left, so that it takes minutes.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "E2E": (
        "unidetector_e2e",
        {"rpn_post_nms_test": 50, "rpn_post_nms_train": 100, "roi_batch": 32},
    ),
    "stage 2": ("unidetector_stage2", {"roi_batch": 32, "beta": 0.3}),
    "stage 2, partitioned": ("unidetector_partitioned", {"roi_batch": 32}),
    "stage 1": (
        "unidetector_cln",
        {"rpn_pre_nms_test": 100, "rpn_pre_nms_train": 100, "roi_batch": 64},
    ),
}


def vectors(sample_data: Path, name: str) -> Path:
    return sample_data / "data" / "clip_embeddings" / f"{name}_clip_a+cname_rn50_manyprompt.npy"


@pytest.fixture(scope="module")
def photos(sample_data: Path) -> DetectionDataset:
    root = sample_data / "data" / "coco_tiny"
    annotations = root / "annotations" / "instances_val.json"
    spec = {"format": "coco", "annotations": annotations, "images": root / "images"}
    return load_dataset({**spec, "count": PHOTOS})


def subject(
    kind: str, sample_data: Path, dataset: DetectionDataset
) -> tuple[dict[str, Any], dict[str, np.ndarray], Batch]:
    """Config, weights, and the photos as the model wants them."""
    peer, changes = MODELS[kind]
    state = Golden(sample_data, peer).state(zero_background=kind != "stage 1")
    mapped = FAMILIES[peer].to_native(state)
    arrays = {key: value for key, value in mapped.arrays.items() if "text_embeddings" not in key}
    arguments = {**mapped.description["arguments"], **changes}
    arguments["preprocess"] = {**arguments.get("preprocess", {}), **SMALL}
    names = {"unidetector_cln": [], "unidetector_partitioned": ["coco", "objects365"]}
    texts = [np.load(vectors(sample_data, name)) for name in names.get(peer, ["coco"])]
    if texts:
        sizes = [len(rows) for rows in texts]
        arguments |= {"num_classes": max(sizes), "vocabulary_sizes": sizes if sizes[1:] else ()}
    for index, rows in enumerate(texts):
        columns = np.zeros((rows.shape[1], len(rows) + 1), np.float32)
        columns[:, :-1] = rows.T
        suffix = f"_{index}" if texts[1:] else ""
        arrays[f"head.text_embeddings{suffix}"] = columns
    config = {"name": mapped.description["name"], "arguments": arguments}
    model = build(config, arrays, "torch")
    with Loader(dataset, model.preprocess, PHOTOS).epoch(0) as found:
        batch = next(iter(found))
    given = example_proposals(model, batch.image_sizes)
    ids = [index % max(len(texts), 1) for index in range(PHOTOS)]
    return config, arrays, dataclasses.replace(batch, proposals=given, dataset_ids=ids)


def report(kind: str, certificate: Certificate) -> str:
    layers, gradients, found = certificate.layers, certificate.gradients, certificate.detections
    layer = max(layers, key=lambda one: one.relative)
    logits = max(one.relative for one in certificate.outputs if one.name.endswith("logits"))
    signal = [one for one in gradients if not one.negligible]
    matched, tied = sum(d.matched for d in found), sum(d.tied for d in found)
    return (
        f"\n{kind}: {len(layers)} layers, the farthest {layer.name} by {layer.relative:.1e} of its "
        f"scale; logits {logits:.1e} of their scale; {matched} of "
        f"{sum(d.reference for d in found)} detections matched ({tied} tied), boxes "
        f"{max(d.max_box for d in found):.1e} px, scores {max(d.max_score for d in found):.1e}; "
        f"losses {max(one.relative for one in certificate.losses):.1e} relative; smallest cosine "
        f"{1 - min(one.cosine for one in signal):.1e} below 1 of {len(gradients)} gradients "
        f"({len(gradients) - len(signal)} negligible)"
    )


@pytest.mark.parametrize("kind", MODELS)
def test_same_weights_give_the_same_numbers(
    kind: str, sample_data: Path, photos: DetectionDataset
) -> None:
    """Layers, logits, detections, losses with the same samples, and gradients."""
    config, arrays, batch = subject(kind, sample_data, photos)
    assert len(batch) == PHOTOS and sum(len(target) for target in batch.targets) > 5
    certificate = certify(config, arrays, batch=batch, thresholds=LIMITS)
    print(report(kind, certificate))
    assert certificate.failures() == []
    for output in certificate.outputs:
        if output.name.endswith("logits"):
            assert output.max_abs <= 1e-4 * max(output.scale, 1)
    assert all(d.reference > 10 and not d.tied for d in certificate.detections)
    assert all(loss.reference > 0 and loss.relative <= 1e-5 for loss in certificate.losses)
    signal = [one for one in certificate.gradients if not one.negligible]
    assert min(one.cosine for one in signal) >= 0.9999
    assert len(signal) > 0.9 * len(certificate.gradients)


@pytest.mark.parametrize("kind", MODELS)
def test_an_imported_file_is_certified(
    kind: str, sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As published, with nothing left out."""
    peer, _ = MODELS[kind]
    state = Golden(sample_data, peer).state(zero_background=kind != "stage 1")
    write_torch(tmp_path / "a.pth", {"state_dict": state})
    files = [str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")]
    assert main(["convert", "import", *files, "--certify"]) == 0, capsys.readouterr()
    certificate = read_certificate(tmp_path / "b.safetensors.parity.json")
    print(report(kind, certificate))
    assert certificate.passed and sum(d.matched for d in certificate.detections) > 20


NARROW = {
    "clip_layers": [1, 1, 1, 1],
    "clip_width": 32,
    "roi_batch": 32,
    "norm_eval": True,
    "frozen_stages": -1,
    "preprocess": {"resize": "fixed", "size": [160, 224]},
}
CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    "E2E": (
        "unidetector_e2e_r50_c4",
        {**NARROW, "rpn_post_nms_train": 100, "anchor_sizes": [[16, 32, 64, 128]]},
    ),
    "stage 2": ("unidetector_stage2_r50_c4", NARROW),
    "stage 1": (
        "unidetector_cln_r18_fpn",
        {
            "fpn_channels": 64,
            "head_channels": 128,
            "rpn_pre_nms_train": 100,
            "roi_batch": 64,
            "frozen_stages": -1,
            "preprocess": NARROW["preprocess"],
        },
    ),
}


def run_of(kind: str, sample_data: Path, proposals: Path, count: int, **more: Any) -> Config:
    """A run on the small COCO."""
    name, arguments = CURVES[kind]
    source = {"annotations": "annotations/instances_train.json", "images": "images"}
    if kind != "stage 1":
        source["embeddings"] = str(vectors(sample_data, "coco"))
    if kind == "stage 2":
        source["proposals"] = str(proposals)
    training = {"max_steps": count, "epochs": count, "log_every": 1, "eval_every": 0}
    return from_mapping(
        {
            "model": {"name": name, "arguments": arguments},
            "data": {
                "format": "coco",
                "root": str(sample_data / "data" / "coco_tiny"),
                "train": source,
                "batch_size": 2,
            },
            "optimizer": {"name": "sgd", "lr": 0.001, "momentum": 0.9, **more.get("optimizer", {})},
            "train": {**training, "seed": 7, **more.get("train", {})},
        }
    )


@pytest.mark.parametrize("kind", CURVES)
def test_twenty_steps_overlay(kind: str, sample_data: Path, tmp_path: Path) -> None:
    """The same samples in each step, from weights that training has reached.

    Why samples and start are shared, and why norms are held, says the proof of Faster R-CNN.
    """
    root = sample_data / "data" / "coco_tiny"
    whole = load_dataset(
        {
            "format": "coco",
            "annotations": root / "annotations" / "instances_train.json",
            "images": root / "images",
        }
    )
    given = tmp_path / "boxes.npz"
    asker = build({"name": "unidetector_stage2_r50_c4", "arguments": NARROW}, None, "torch")
    boxes = example_proposals(asker, [(one.height, one.width) for one in whole.images])
    write_proposals(given, {one.id: rows for one, rows in zip(whole.images, boxes)})
    begin = {"name": "adamw", "lr": 3e-4, "momentum": 0.0}
    first = run_of(kind, sample_data, given, 100, optimizer=begin)
    train(first, backend="torch", work_dir=tmp_path / "start", quiet=True)
    weights = {"weights": str(tmp_path / "start" / "last.safetensors")}
    chosen = run_of(kind, sample_data, given, STEPS, train=weights)
    check_overlay(kind, chosen, tmp_path, STEPS, share_samples=True)
