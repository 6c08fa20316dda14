"""Models of full size on photos: the exported file beside PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.golden.support import Golden
from unidet.backends import nn
from unidet.certificate.certificate import Thresholds
from unidet.export import OnnxDetector
from unidet.export.check import compare, photo_batches
from unidet.export.write import onnx_bytes
from unidet.models import create_model
from unidet.weights_convert import FAMILIES

PHOTOS = 5
#: Given to the second stage: its head takes them in two turns.
PROPOSALS = 350
#: As in the proofs of torch against Jittor.
LIMITS = Thresholds(boxes=0.02, scores=1e-4)
#: Peer whose weights give many detections, arguments, and the shortest and longest side.
MODELS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "RetinaNet-18": ("yhenon_retinanet_resnet18", {}, (608, 1024)),
    "RetinaNet-50": ("torchvision_retinanet_resnet50_fpn", {}, (800, 1333)),
    "RetinaNet-50, detectron2": ("detectron2_retinanet_R_50_FPN", {}, (480, 800)),
    "RetinaNet-50, mmdetection": ("mmdet_retinanet_r50_fpn", {}, (480, 800)),
    "Faster R-CNN-50": ("torchvision_fasterrcnn_resnet50_fpn", {}, (800, 1333)),
    "Faster R-CNN-50, mmdetection": ("mmdet_faster_rcnn_r50_fpn", {}, (480, 800)),
    "Faster R-CNN-50 C4": (
        "detectron2_faster_rcnn_R_50_C4",
        {"rpn_post_nms_test": 300},
        (480, 800),
    ),
    "DETR-50": ("fb_detr_r50", {}, (800, 1333)),
    "UniDetector, stage 2": ("unidetector_stage2", {"beta": 0.3}, (480, 800)),
    "UniDetector, stage 1": ("unidetector_cln", {"rpn_pre_nms_test": 300}, (480, 800)),
    "UniDetector, end to end": ("unidetector_e2e", {"rpn_post_nms_test": 100}, (480, 800)),
}


def photos(sample_data: Path) -> list[Path]:
    return sorted((sample_data / "data" / "coco_tiny" / "images").glob("*.jpg"))[:PHOTOS]


def model_of(kind: str, sample_data: Path) -> Any:
    """A model of full size with the weights of a peer's golden outputs."""
    peer, changes, (least, most) = MODELS[kind]
    state = Golden(sample_data, peer).state(zero_background=peer in TEXTS)
    mapped = FAMILIES[peer if peer in FAMILIES else family_of(state)].to_native(state)
    arrays = dict(mapped.arrays)
    arguments = {**mapped.description["arguments"], **changes}
    sides = {"min_size": least, "max_size": most}
    arguments["preprocess"] = {**arguments.get("preprocess", {}), **sides}
    if peer in TEXTS:
        name = "coco_clip_a+cname_rn50_manyprompt.npy"
        rows = np.load(sample_data / "data" / "clip_embeddings" / name).astype(np.float32)
        arrays["head.text_embeddings"] = np.pad(rows.T, ((0, 0), (0, 1)))
        arguments["num_classes"] = len(rows)
    name = mapped.description["name"]
    model = create_model(name, backend="torch", seed=None, **arguments)
    nn.load_arrays(model, arrays)
    return model


#: Peers whose classes are text.
TEXTS = ("unidetector_stage2", "unidetector_e2e")


def family_of(state: dict[str, np.ndarray]) -> str:
    from unidet.weights_convert import detect_family

    return detect_family(state).name


def some_proposals(seed: int, height: int, width: int) -> np.ndarray:
    """``(PROPOSALS, 5)`` float32: boxes of all sizes with falling scores."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((PROPOSALS, 2, 2)), axis=1).reshape(-1, 4)
    scores = np.linspace(0.99, 0.01, PROPOSALS)[:, None]
    return np.hstack([corners * [width, height, width, height], scores]).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_photos_give_the_same_detections(kind: str, sample_data: Path) -> None:
    model = model_of(kind, sample_data)
    content = onnx_bytes(model)
    batches = photo_batches(model, photos(sample_data))
    for number, batch in enumerate(batches):
        if batch.proposals:
            batch.proposals = [some_proposals(number, *batch.image_sizes[0])]
    found = compare(OnnxDetector(content, threads=1), model, batches, LIMITS)
    count, matched = sum(one.reference for one in found), sum(one.matched for one in found)
    print(
        f"\n{kind}: {matched} of {count} detections matched "
        f"({sum(one.tied for one in found)} tied), boxes "
        f"{max(one.max_box for one in found):.1e} px, scores "
        f"{max(one.max_score for one in found):.1e}; {len(content) / 2**20:.0f} MiB"
    )
    assert all(one.ok for one in found), found
    assert count > PHOTOS
