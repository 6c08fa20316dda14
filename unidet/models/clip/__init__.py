"""CLIP (Radford et al. 2021) with a ResNet: both towers, and each by itself.

Tokens, templates and stored text embeddings belong to ``unidet.text``.
"""

from unidet.models.base import ModelSpec
from unidet.models.clip.config import CLIPConfig
from unidet.models.clip.model import CLIP
from unidet.models.clip.resnet import LAYERS
from unidet.models.clip.visual import CLIPVisual

#: Models of this folder by name.
MODELS = {
    "clip_rn50": ModelSpec(CLIP),
    "clip_rn101": ModelSpec(CLIP, {"embed_dim": 512, "vision_layers": LAYERS[101]}),
    "clip_rn50_visual": ModelSpec(CLIPVisual),
}

__all__ = ["CLIP", "MODELS", "CLIPConfig", "CLIPVisual"]
