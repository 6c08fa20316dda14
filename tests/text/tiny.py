"""A CLIP and a vocabulary that are small enough for quick tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unidet.backends import nn
from unidet.checkpoints.native import Checkpoint, write_checkpoint
from unidet.models import create_model

MERGES = "p h\no t\nph ot\nphot o</w>\no f</w>\nt h\nth e</w>\n"
#: Tokens of the vocabulary: bytes, the seven merges, two marks.
SIZE = 512 + 7 + 2
ARGUMENTS: dict[str, Any] = {
    "embed_dim": 12,
    "vision_layers": (1, 1, 1, 1),
    "vision_width": 8,
    "image_resolution": 64,
    "vocab_size": SIZE,
    "transformer_width": 24,
    "transformer_heads": 3,
    "transformer_layers": 2,
}


def write_vocabulary(folder: Path) -> Path:
    """A file of merges for :class:`unidet.text.Tokenizer`."""
    path = folder / "merges.txt"
    path.write_text(f"title\n{MERGES}")
    return path


def tiny_clip(backend: str, seed: int = 3) -> Any:
    """A CLIP with weights that are larger than fresh ones, so that texts differ clearly."""
    model = create_model("clip_rn50", backend=backend, seed=seed, **ARGUMENTS)
    rng = np.random.default_rng(seed)
    scaled = {
        name: (rng.standard_normal(array.shape) * 0.5).astype(np.float32)
        for name, array in nn.state_arrays(model).items()
        if not name.startswith("visual.") and array.ndim
    }
    nn.load_arrays(model, scaled, strict=False)
    return model


def write_clip(folder: Path, backend: str, seed: int = 3) -> Path:
    """The checkpoint of such a CLIP."""
    model = tiny_clip(backend, seed)
    path = folder / f"clip{seed}.safetensors"
    write_checkpoint(path, Checkpoint(nn.state_arrays(model), model.config))
    return path
