"""Small models, generated pictures, and a file beside the model it was made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.models.tiny_unidetector import RPN, TINY, texts
from unidet.backends import nn
from unidet.certificate.certificate import DetectionMatch, Thresholds
from unidet.data.scene_render import render_scene
from unidet.export import OnnxDetector
from unidet.export.check import compare
from unidet.export.write import onnx_bytes
from unidet.models import create_model
from unidet.models.base import example_proposals
from unidet.structures import Batch

#: Of networks that were never trained.
LIMITS = Thresholds(boxes=0.02, scores=2e-4)
#: ``(height, width)`` of the pictures that every model sees: the file holds no size of its own.
SIZES = ((120, 180), (200, 150))
#: Factor of the last class weights, so that scores lie apart.
SPREAD = 20.0

_SMALL = {"preprocess": {"min_size": 128, "max_size": 224}}
_RETINANET = {"fpn_channels": 16, "head_channels": 16, "head_depth": 1, "score_threshold": 0.02}
_TWO_STAGE = {"fpn_channels": 16, "head_channels": 32, "score_threshold": 0.02}
_RPN = {"rpn_pre_nms_test": 200, "rpn_post_nms_test": 60}
_TEXT = {**TINY, "num_classes": 5}

#: Name and arguments of a model for each way through the graph.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "retinanet": ("retinanet_r18_fpn", {**_RETINANET, "num_classes": 5, "head_groups": 4}),
    "retinanet, yhenon": (
        "retinanet_r18_fpn_yhenon",
        {**_RETINANET, "num_classes": 5, "score_threshold": 0.3},
    ),
    "retinanet, torchvision": (
        "retinanet_r18_fpn_torchvision_v1",
        {**_RETINANET, "num_classes": 6, "norm_eps": 1e-5},
    ),
    "retinanet, detectron2": ("retinanet_r18_fpn_detectron2", {**_RETINANET, "num_classes": 5}),
    "faster rcnn": ("faster_rcnn_r18_fpn", {**_TWO_STAGE, **_RPN, "num_classes": 5}),
    "faster rcnn, detectron2": (
        "faster_rcnn_r18_fpn_detectron2",
        {**_TWO_STAGE, **_RPN, "num_classes": 5, "min_side": 2.0, "soft_nms": "linear"},
    ),
    "faster rcnn, torchvision": (
        "faster_rcnn_r18_fpn_torchvision_v2",
        {**_TWO_STAGE, **_RPN, "num_classes": 6, "rpn_score_threshold": 0.3},
    ),
    "fast rcnn": ("fast_rcnn_r18_fpn", {**_TWO_STAGE, "num_classes": 5, "class_agnostic": True}),
    "detr": (
        "detr_r18",
        {
            "num_classes": 5,
            "width": 32,
            "heads": 4,
            "feedforward": 32,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "num_queries": 20,
            "score_threshold": 0.002,
            # Padded, so that the mask has something to hide.
            "preprocess": {"min_size": 128, "max_size": 224, "pad_divisor": 64},
        },
    ),
    "stage 2": ("unidetector_stage2_r50_c4", _TEXT),
    "stage 2, calibrated": (
        "unidetector_stage2_r50_c4",
        {
            **_TEXT,
            "beta": 0.3,
            "gamma": 0.6,
            "class_prior": (1, 5, 20, 3, 0),
            "max_proposals_test": 20,
            "soft_nms": None,
        },
    ),
    "end to end": ("unidetector_e2e_r50_c4", {**_TEXT, **RPN}),
    "stage 1": (
        "unidetector_cln_r18_fpn",
        {"fpn_channels": 16, "head_channels": 32, "rpn_pre_nms_test": 60},
    ),
}


def model_of(kind: str, backend: str = "torch", **changes: Any) -> Any:
    """A model with fresh weights whose scores are spread."""
    name, arguments = MODELS[kind]
    model = create_model(name, backend=backend, seed=1, **{**_SMALL, **arguments, **changes})
    arrays = nn.state_arrays(model)
    rng = np.random.default_rng(0)
    for key in arrays:
        if key.endswith(("cls_out.weight", "class_embed.weight")):
            draws = rng.standard_normal(arrays[key].shape).astype(np.float32)
            arrays[key] = draws * np.float32(SPREAD * arrays[key].std() or 0.1)
    nn.load_arrays(model, arrays)
    if hasattr(model, "set_training_vocabularies"):
        model.set_training_vocabularies(texts(*model.sizes))
    return model


def pictures() -> list[np.ndarray]:
    """``(h, w, 3)`` uint8 of each of :data:`SIZES`."""
    return [render_scene(5, number, size=size).image for number, size in enumerate(SIZES)]


def batches(model: Any) -> list[Batch]:
    """The pictures as a model wants them."""
    found = []
    for picture in pictures():
        batch = model.preprocess.batch([picture])
        batch.proposals = example_proposals(model, batch.image_sizes)
        found.append(batch)
    return found


def beside(model: Any, **options: Any) -> list[DetectionMatch]:
    """Detections of model and file on the pictures."""
    exported = OnnxDetector(onnx_bytes(model, **options), threads=1)
    return compare(exported, model, batches(model), LIMITS)
