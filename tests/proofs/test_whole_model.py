"""The whole RetinaNet with real photos: torch against Jittor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden
from unidet.backends import nn, ops
from unidet.certificate.certificate import Thresholds
from unidet.certificate.differences import match_detections
from unidet.data import DetectionDataset, Loader, load_dataset
from unidet.models import create_model
from unidet.structures import Batch
from unidet.weights_convert import detect_family

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("both")]

PHOTOS = 10
#: Weights under which photos give many detections, and a model that reads them.
MODELS = {18: "yhenon_retinanet_resnet18", 50: "torchvision_retinanet_resnet50_fpn"}


@pytest.fixture(scope="module")
def photos(sample_data: Path) -> DetectionDataset:
    root = sample_data / "data" / "coco_tiny"
    annotations = next((root / "annotations").glob("*val*.json"))
    spec = {"format": "coco", "annotations": annotations, "images": root / "images"}
    return load_dataset({**spec, "count": PHOTOS})


def batches(dataset: DetectionDataset, model: Any) -> list[Batch]:
    with Loader(dataset, model.preprocess, 1).epoch(0) as found:
        return list(found)


def answers(golden: Golden, dataset: DetectionDataset, backend: str) -> list[tuple[Any, ...]]:
    """Logits, deltas and detections of every photo."""
    mapped = detect_family(golden.state()).to_native(golden.state())
    arguments = dict(mapped.description["arguments"])
    model = create_model(mapped.description["name"], backend=backend, seed=None, **arguments)
    # Smaller than published, so that the proof takes minutes.
    small = {**model.preprocess.to_dict(), "min_size": 320, "max_size": 480}
    model = create_model(
        mapped.description["name"], backend=backend, seed=None, **{**arguments, "preprocess": small}
    )
    nn.load_arrays(model, mapped.arrays)
    found = []
    for batch in batches(dataset, model):
        with ops.no_grad():
            outputs = model(ops.asarray(batch.images, backend=backend))
        detections = model.predict(outputs, batch)[0]
        found.append(
            (ops.to_numpy(outputs["cls_logits"]), ops.to_numpy(outputs["box_deltas"]), detections)
        )
    return found


@pytest.mark.parametrize("depth", MODELS)
def test_same_weights_give_the_same_detections(
    depth: int, sample_data: Path, photos: DetectionDataset
) -> None:
    golden = Golden(sample_data, MODELS[depth])
    sides = [answers(golden, photos, backend) for backend in ("torch", "jittor")]
    logits = max(float(np.abs(a[0] - b[0]).max()) for a, b in zip(*sides))
    count, worst_box, worst_score = 0, 0.0, 0.0
    for a, b in zip(*sides):
        match = match_detections(0, a[2], b[2], Thresholds())
        count += len(a[2])
        assert match.ok, match
        worst_box = max(worst_box, match.max_box)
        worst_score = max(worst_score, match.max_score)
    print(
        f"\nRetinaNet-{depth}: logits {logits:.2e}, boxes {worst_box:.2e} px, "
        f"scores {worst_score:.2e}, {count} detections on {len(sides[0])} photos"
    )
    assert len(sides[0]) == PHOTOS
    assert count > 100
    assert logits <= 1e-4
    assert worst_box <= 0.01
    assert worst_score <= 1e-5
