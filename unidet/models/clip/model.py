"""CLIP with a ResNet (Radford et al. 2021): images and texts in one space of features."""

from __future__ import annotations

from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.files.shown import shown
from unidet.models.clip.resnet import LAYERS, AttentionPool, CLIPResNet
from unidet.models.clip.text import CLIPText
from unidet.models.layers.unit_vectors import unit_vectors

#: Arguments that OpenAI's models stand for.
CLIPS: dict[str, dict[str, Any]] = {
    "clip_rn50": {"embed_dim": 1024, "vision_layers": LAYERS[50]},
    "clip_rn101": {"embed_dim": 512, "vision_layers": LAYERS[101]},
}


class VisualTower(CLIPResNet):
    """The ResNet and the attention that makes one vector of its last map.

    Args:
        layers: blocks in each of four stages.
        width: of the stem.
        side: of the last map, in positions.
        outputs: length of the vector.
    """

    def __init__(self, layers: tuple[int, ...], width: int, side: int, outputs: int) -> None:
        super().__init__(tuple(layers), width)
        self.attnpool = AttentionPool(side, self.channels[-1], outputs)

    def initial_values(self, draw: Any) -> dict[str, np.ndarray]:
        """As of the ResNet; each block starts as its shortcut, as CLIP."""
        values: dict[str, np.ndarray] = super().initial_values(draw)
        for name, value in self.named_parameters():
            if name.startswith("layer") and name.endswith("bn3.weight"):
                values[name] = np.zeros(tuple(ops.shape(value)), np.float32)
        return values

    def forward(self, images: Any) -> Any:
        """``(N, 3, H, W)`` to ``(N, outputs)``."""
        return self.attnpool(super().forward(images)[-1])


class CLIP(CLIPText):
    """Both towers, with OpenAI's parameter names.

    Args:
        embed_dim: length of the features.
        vision_layers: blocks in each stage of the ResNet.
        vision_width: of its stem.
        image_resolution: side of the square images, a multiple of 32.
        context_length: most tokens of a text.
        vocab_size: number of tokens.
        transformer_width: channels of the text tower.
        transformer_heads: of each of its attentions.
        transformer_layers: its blocks.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    #: ``forward`` wants texts beside images.
    takes_tokens = True

    def __init__(
        self,
        embed_dim: int = 1024,
        vision_layers: tuple[int, ...] = LAYERS[50],
        vision_width: int = 64,
        image_resolution: int = 224,
        context_length: int = 77,
        vocab_size: int = 49408,
        transformer_width: int = 512,
        transformer_heads: int = 8,
        transformer_layers: int = 12,
    ) -> None:
        super().__init__(
            embed_dim,
            context_length,
            vocab_size,
            transformer_width,
            transformer_heads,
            transformer_layers,
        )
        if len(vision_layers) != 4:
            raise ValueError(
                f"Invalid value for `vision_layers`. Expected four counts of blocks. "
                f"Received {shown(vision_layers)}."
            )
        if image_resolution < 32 or image_resolution % 32:
            raise ValueError(
                f"Invalid value for `image_resolution`. Expected a multiple of 32. "
                f"Received {shown(image_resolution)}."
            )
        self.image_resolution = image_resolution
        self.visual = VisualTower(vision_layers, vision_width, image_resolution // 32, embed_dim)
        self.logit_scale = nn.Parameter(np.array(np.log(1 / 0.07), np.float32))
        self._arguments = {
            "embed_dim": embed_dim,
            "vision_layers": tuple(vision_layers),
            "vision_width": vision_width,
            "image_resolution": image_resolution,
            "context_length": context_length,
            "vocab_size": vocab_size,
            "transformer_width": transformer_width,
            "transformer_heads": transformer_heads,
            "transformer_layers": transformer_layers,
        }
        self.model_name = "clip_rn50"

    @property
    def config(self) -> dict[str, Any]:
        """Name and arguments, from which :func:`unidet.models.create_model` makes it again."""
        return {"name": self.model_name, "arguments": dict(self._arguments)}

    def encode_image(self, images: Any) -> Any:
        """Features of images, not normalised.

        Args:
            images: ``(N, 3, side, side)`` with ``side`` the ``image_resolution``; RGB, less CLIP's
                mean, by its deviation.

        Returns:
            ``(N, embed_dim)``.

        Raises:
            ValueError: images of another size.
        """
        expected = (3, self.image_resolution, self.image_resolution)
        if tuple(ops.shape(images)[1:]) != expected:
            raise ValueError(
                f"Invalid value for `images`. Expected the shape (N, {str(expected)[1:]}. "
                f"Received {tuple(ops.shape(images))}."
            )
        return self.visual(images)

    def forward(self, images: Any, tokens: Any) -> dict[str, Any]:
        """Features of images and texts, and how well they fit.

        Args:
            images: as for :meth:`encode_image`.
            tokens: as for :meth:`encode_text`.

        Returns:
            ``image_features`` and ``text_features``, rows of ``embed_dim``, not normalised, and
            ``logits`` ``(images, texts)``: cosines times the learnt scale.
        """
        image, text = self.encode_image(images), self.encode_text(tokens)
        cosines = ops.matmul(unit_vectors(image, 1), ops.transpose(unit_vectors(text, 1), (1, 0)))
        logits = cosines * ops.exp(self.logit_scale)
        return {"image_features": image, "text_features": text, "logits": logits}
