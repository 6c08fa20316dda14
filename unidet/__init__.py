"""Object detection written once, run natively on PyTorch and Jittor.

::

    import unidet

    model = unidet.create_model("retinanet_r18_fpn", num_classes=3, backend="torch")
    report = unidet.load_weights(model, "weights.pth")
    detector = unidet.Detector("runs/demo/best.safetensors", backend="jittor")
    result = detector("photo.jpg", score_threshold=0.3)

Importing the package loads neither framework; each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unidet.certificate.certify import certify as certify
    from unidet.checkpoints.load import load_weights as load_weights
    from unidet.detector import Detector as Detector
    from unidet.evaluation import evaluate_model as evaluate_model
    from unidet.export import OnnxDetector as OnnxDetector
    from unidet.export import export_onnx as export_onnx
    from unidet.models import create_model as create_model
    from unidet.plugins import load_plugins as load_plugins
    from unidet.plugins import register_augmentation as register_augmentation
    from unidet.plugins import register_checkpoint_family as register_checkpoint_family
    from unidet.plugins import register_dataset_format as register_dataset_format
    from unidet.plugins import register_model as register_model
    from unidet.plugins import register_op as register_op
    from unidet.structures import Batch as Batch
    from unidet.structures import Detections as Detections
    from unidet.structures import Targets as Targets

__version__ = "0.1.0"

_EXPORTS = {
    "Batch": "unidet.structures",
    "Detections": "unidet.structures",
    "Detector": "unidet.detector",
    "OnnxDetector": "unidet.export",
    "Targets": "unidet.structures",
    "certify": "unidet.certificate.certify",
    "create_model": "unidet.models",
    "evaluate_model": "unidet.evaluation",
    "export_onnx": "unidet.export",
    **dict.fromkeys(
        (
            *("load_plugins", "register_augmentation", "register_checkpoint_family"),
            *("register_dataset_format", "register_model", "register_op"),
        ),
        "unidet.plugins",
    ),
    "load_weights": "unidet.checkpoints.load",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
