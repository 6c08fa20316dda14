"""CLIP's visual tower by itself, which RegionCLIP trained on regions (Zhong et al. 2022)."""

from __future__ import annotations

from typing import Any

from unidet.backends import ops
from unidet.models.arguments import Arguments
from unidet.models.base import Model
from unidet.models.clip.config import CLIPConfig
from unidet.models.clip.model import VisualTower

#: Side of the input in pixels.
RESOLUTION = 224
_STRIDE = 32


class CLIPVisual(VisualTower, Model):
    """The visual tower of CLIP's RN50, under CLIP's names without ``visual.``."""

    image_resolution = RESOLUTION

    def __init__(self, config: Arguments | None = None) -> None:
        c = CLIPConfig()
        super().__init__(c.vision_layers, c.vision_width, RESOLUTION // _STRIDE, c.embed_dim)
        self.model_name = "clip_rn50_visual"

    def forward(self, images: Any) -> dict[str, Any]:
        """``features`` ``(N, 1024)`` of ``(N, 3, 224, 224)``.

        Raises:
            ValueError: images of another size.
        """
        if tuple(ops.shape(images)[1:]) != (3, RESOLUTION, RESOLUTION):
            raise ValueError(
                f"Invalid value for `images`. Expected the shape (N, 3, {RESOLUTION}, "
                f"{RESOLUTION}). Received {tuple(ops.shape(images))}."
            )
        return {"features": super().forward(images)}
