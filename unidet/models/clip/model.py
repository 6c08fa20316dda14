"""CLIP with a ResNet (Radford et al. 2021): images and texts in one space of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends import nn, ops, random
from unidet.models.arguments import built_from
from unidet.models.base import Model
from unidet.models.clip.config import CLIPConfig
from unidet.models.clip.resnet import AttentionPool, CLIPResNet
from unidet.models.clip.text import CLIPText
from unidet.models.layers.unit_vectors import unit_vectors
from unidet.structures import Batch


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


class CLIP(CLIPText, Model):
    """Both towers, with OpenAI's parameter names.

    Args:
        config: a :class:`unidet.models.clip.config.CLIPConfig`, or its arguments.
    """

    config_class = CLIPConfig
    settings: CLIPConfig

    @built_from(CLIPConfig)
    def __init__(self, config: CLIPConfig) -> None:
        c = config
        super().__init__(
            c.embed_dim,
            c.context_length,
            c.vocab_size,
            c.transformer_width,
            c.transformer_heads,
            c.transformer_layers,
        )
        self.settings = c
        self.model_name = "clip_rn50"
        self.image_resolution = c.image_resolution
        side = c.image_resolution // 32
        self.visual = VisualTower(c.vision_layers, c.vision_width, side, c.embed_dim)
        self.logit_scale = nn.Parameter(np.array(np.log(1 / 0.07), np.float32))

    def run(
        self,
        batch: Batch,
        *,
        like: Any = None,
        proposals: Sequence[np.ndarray] | None = None,
        network: Any = None,
    ) -> dict[str, Any]:
        """Outputs for the images of a batch and for :meth:`example_tokens`."""
        like = next(iter(nn.parameters(self).values())) if like is None else like
        images = ops.asarray(batch.images, like=like)
        outputs: dict[str, Any] = (network or self)(images, self.example_tokens())
        return outputs

    def example_tokens(self, texts: int = 4) -> np.ndarray:
        """Texts of random tokens and of several lengths, for trials.

        Args:
            texts: how many.

        Returns:
            ``(texts, context_length)`` int64; the two last tokens begin and end a text.
        """
        generator = random.stream(0, "tokens")
        begin, end, longest = self.vocab_size - 2, self.vocab_size - 1, self.context_length
        tokens = []
        for length in np.linspace(1, longest - 2, texts).astype(int):
            words = generator.integers(1, begin, length).tolist()
            tokens.append([begin, *words, end, *[0] * (longest - 2 - length)])
        return np.array(tokens, np.int64)

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
