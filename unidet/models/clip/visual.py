"""CLIP's visual tower by itself, which RegionCLIP trained on regions (Zhong et al. 2022)."""

from __future__ import annotations

from typing import Any

from unidet.backends import ops
from unidet.models.clip.model import CLIPS, VisualTower

#: Side of the input in pixels.
RESOLUTION = 224
_STRIDE = 32


class CLIPVisual(VisualTower):
    """The visual tower of CLIP's RN50, under CLIP's names without ``visual.``."""

    def __init__(self) -> None:
        arguments = CLIPS["clip_rn50"]
        super().__init__(
            arguments["vision_layers"], 64, RESOLUTION // _STRIDE, arguments["embed_dim"]
        )
        #: Side of the only images that it takes.
        self.image_resolution = RESOLUTION
        self.model_name = "clip_rn50_visual"

    @property
    def config(self) -> dict[str, Any]:
        """Name and arguments, from which :func:`unidet.models.create_model` makes it again."""
        return {"name": self.model_name, "arguments": {}}

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
