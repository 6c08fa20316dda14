"""The preprocessing that a model's config chooses, against what the peer makes of the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.checkpoints.published import full_arguments
from unidet.data import Preprocess, Sample
from unidet.structures import Targets

#: Pipeline of the golden outputs: the imported models whose peer has it.
MODELS = {
    "torchvision": (
        "retinanet_r50_fpn_torchvision_v1",
        "retinanet_r50_fpn_torchvision_v2",
        "faster_rcnn_r50_fpn_torchvision_v1",
        "faster_rcnn_r50_fpn_torchvision_v2",
    ),
    "mmdet": ("retinanet_r50_fpn_mmdet", "faster_rcnn_r50_fpn_mmdet"),
    "mmdet_caffe": (
        "retinanet_r50_fpn_mmdet_caffe",
        "faster_rcnn_r50_fpn_mmdet_caffe",
        "faster_rcnn_r50_c4_mmdet_caffe",
    ),
    "detectron2": ("retinanet_r50_fpn_detectron2", "faster_rcnn_r50_fpn_detectron2"),
    "yhenon": ("retinanet_r50_fpn_yhenon",),
}
#: Of normalised values. The stored recommendations are 1e-4 and 1e-3 for the two that resize
#: floating point; all of ours stay below.
TOLERANCE = 1e-5
GREY_LEVEL = 1 / 255 / 0.224


@pytest.fixture(scope="module")
def golden(sample_data: Path) -> Any:
    with np.load(sample_data / "golden/given/preprocessing/outputs.npz") as file:
        return {key: file[key] for key in file.files}


def chosen(model: str) -> Preprocess:
    """What the config of an imported model says."""
    arguments = full_arguments({"name": model, "arguments": {}})
    return Preprocess.from_dict(json.loads(json.dumps(arguments["preprocess"])))


def differences(preprocess: Preprocess, golden: Any, pipeline: str, number: int) -> np.ndarray:
    """Of the stored values, after sizes, padding and scale were compared."""
    image = golden[f"image{number}"]
    stored = {
        key: golden[f"{pipeline}/{number}/{key}"]
        for key in ("valid_hw", "shape", "step", "sample", "stats", "top_left", "bottom_right")
    }
    chw, size, scale = preprocess.apply(image)
    none = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    batch = preprocess.collate([Sample(chw, image.shape[:2], scale, none)])
    padded = batch.images[0]
    assert size == tuple(stored["valid_hw"]) == batch.image_sizes[0]
    assert padded.shape == tuple(stored["shape"])
    assert not padded[:, size[0] :].any() and not padded[:, :, size[1] :].any()
    mean, std, _ = stored["stats"]
    assert padded.mean(dtype=np.float64) == pytest.approx(mean, abs=2e-3 * std)
    assert padded.std(dtype=np.float64) == pytest.approx(std, rel=2e-3)
    got = [padded.ravel()[:: int(stored["step"])], chw[:, :6, :6], chw[:, -6:, -6:]]
    wanted = [stored[key] for key in ("sample", "top_left", "bottom_right")]
    return np.concatenate([np.abs(a - b).ravel() for a, b in zip(got, wanted, strict=True)])


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("pipeline", MODELS)
def test_models_prepare_pictures_as_their_peers(pipeline: str, number: int, golden: Any) -> None:
    first, *others = (chosen(model) for model in MODELS[pipeline])
    assert all(other == first for other in others)
    assert differences(first, golden, pipeline, number).max() <= TOLERANCE


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("pipeline", ["fb_detr", "transformers_pil"])
def test_detr(pipeline: str, number: int, golden: Any) -> None:
    assert differences(Preprocess.preset("detr"), golden, pipeline, number).max() <= TOLERANCE


@pytest.mark.parametrize("number", [0, 1, 2])
def test_transformers(number: int, golden: Any) -> None:
    """Its default processor resizes through torchvision, a library of its own."""
    found = differences(Preprocess.preset("detr"), golden, "transformers", number)
    assert found.max() <= 1.001 * GREY_LEVEL
    assert (found > TOLERANCE).mean() < 0.02


def test_c4_pads_to_the_largest_picture_alone() -> None:
    model = chosen("faster_rcnn_r50_c4_detectron2")
    assert model == Preprocess.preset("detectron2", pad_divisor=1)


def test_peers_do_not_stand_for_each_other(golden: Any) -> None:
    """Where one antialiases and another does not, one's rule fails the other's pictures."""
    values = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375), "scale": 1.0}
    wrong = Preprocess(resize="detectron2", **values)
    assert differences(wrong, golden, "mmdet", 1).max() > GREY_LEVEL
