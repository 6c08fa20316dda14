"""Small DETRs in the files of both libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from unidet.weights_convert import FAMILIES, write_safetensors
from unidet.weights_convert.families.architecture import Shape
from unidet.weights_convert.families.detr_shapes import DETRShape
from unidet.weights_convert.families.native import native_shapes

#: Small in all but the backbone.
SMALL = DETRShape(
    18,
    3,
    num_queries=5,
    width=16,
    feedforward=12,
    encoder_layers=1,
    decoder_layers=2,
)
#: What Hugging Face's config.json says of it, and another setting of each kind.
CONFIG: dict[str, Any] = {
    "model_type": "detr",
    "d_model": 16,
    "num_queries": 5,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "dropout": 0.2,
    "attention_dropout": 0.3,
    "activation_dropout": 0.0,
    "auxiliary_loss": True,
    "class_cost": 2,
    "bbox_cost": 4.5,
    "giou_cost": 3,
    "bbox_loss_coefficient": 6,
    "giou_loss_coefficient": 2.5,
    "eos_coefficient": 0.2,
    "backbone": "resnet18",
    "use_timm_backbone": True,
    "transformers_version": "5.23.0",
    "id2label": {"0": "cat", "1": "dog", "2": "cow"},
}


def detr_shapes(net: DETRShape) -> dict[str, Shape]:
    """Names and shapes of a DETR without step counts."""
    sizes = {name: value for name, value in vars(net).items() if name != "depth"}
    return native_shapes(f"detr_r{net.depth}", {**sizes, "heads": 1}, counters=False)


def native(net: DETRShape = SMALL) -> dict[str, np.ndarray]:
    """A state under our names; every value of the transformer is another."""
    rng = np.random.default_rng(0)
    return {
        name: np.broadcast_to(np.float32(i), shape)
        if name.startswith("backbone.")
        else rng.normal(size=shape).astype(np.float32)
        for i, (name, shape) in enumerate(detr_shapes(net).items())
    }


def published(family: str, arrays: dict[str, np.ndarray], form: str | None = None) -> Any:
    """The state under a family's names."""
    return FAMILIES[family].from_native(arrays, form=form)[0]


def huggingface_folder(folder: Path, state: dict[str, np.ndarray], **changes: Any) -> Path:
    """Writes weights and config; an entry of None is left out."""
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", state)
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
