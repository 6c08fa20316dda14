"""Detectors, written once on the backend layer."""

from unidet.models.factory import (
    MODELS,
    ModelConfig,
    ModelSpec,
    create_from,
    create_model,
    model_spec,
)

__all__ = ["MODELS", "ModelConfig", "ModelSpec", "create_from", "create_model", "model_spec"]
