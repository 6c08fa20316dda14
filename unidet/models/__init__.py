"""Models, written once on the backend layer: a folder for each family, ``base`` for all.

What has no tensors of a model belongs elsewhere: ``data``, ``checkpoints``, ``engine``.
"""

from unidet.models.base import DetectionModel, Model, ModelSpec, ReadsText
from unidet.models.factory import (
    MODELS,
    ModelConfig,
    create_from,
    create_model,
    model_spec,
)

__all__ = [
    "MODELS",
    "DetectionModel",
    "Model",
    "ModelConfig",
    "ModelSpec",
    "ReadsText",
    "create_from",
    "create_model",
    "model_spec",
]
