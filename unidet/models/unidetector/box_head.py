"""Second stage that compares a proposal with text: CLIP's last stage, attention, cosines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.nn import initial
from unidet.models.clip.resnet import AttentionPool, make_clip_stage
from unidet.models.layers.resnet import make_norm
from unidet.models.layers.unit_vectors import unit_vectors

#: Class logits are cosines times this (the inverse of CLIP's learnt temperature).
LOGIT_SCALE = 100.0


class CLIPBoxHead(nn.Module):
    """Class logits against text embeddings, and one box for all classes.

    Args:
        blocks: of the last stage.
        width: of the network's stem.
        side: of the map of a proposal, before the last stage halves it.
        embedding_dim: length of the vectors that are compared.
        vocabulary_sizes: classes of each vocabulary; the buffers are ``text_embeddings`` for a
            single one and ``text_embeddings_0``, ``text_embeddings_1``, ... for several. They have
            shape ``(embedding_dim, classes + 1)``; the last column, the background's, is zero.
        several: the buffers are numbered.
        norm, norm_eps: of the last stage.
    """

    def __init__(
        self,
        blocks: int,
        width: int,
        side: int,
        embedding_dim: int,
        vocabulary_sizes: Sequence[int],
        *,
        several: bool = False,
        norm: str = "batch",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.layer4, channels = make_clip_stage(blocks, 3, width, make_norm(norm, norm_eps))
        self.attnpool = AttentionPool(side // 2, channels, embedding_dim)
        self.box_out = nn.Linear(embedding_dim, 4)
        self.embedding_dim = embedding_dim
        self.text_names: tuple[str, ...] = ()
        self.set_text([np.zeros((n, embedding_dim), np.float32) for n in vocabulary_sizes], several)

    def initial_values(self, draw: Any) -> dict[str, np.ndarray]:
        """Kaiming normal for convolutions, a narrow normal for the boxes."""
        values = {"box_out.bias": np.zeros(4, np.float32)}
        for name, value in self.named_parameters():
            shape = tuple(ops.shape(value))
            if len(shape) == 4:
                values[name] = initial.kaiming_normal(draw(name), shape)
            elif name == "box_out.weight":
                values[name] = initial.normal(draw(name), shape, 0.001)
        return values

    def set_text(self, embeddings: Sequence[np.ndarray], several: bool = False) -> None:
        """Replaces all vocabularies.

        Args:
            embeddings: ``(classes, embedding_dim)`` of each.
            several: number the buffers.
        """
        like = self.box_out.bias
        for name in self.text_names:
            delattr(self, name)
        names = [
            f"text_embeddings_{i}" if several else "text_embeddings" for i in range(len(embeddings))
        ]
        for name, rows in zip(names, embeddings):
            self.register_buffer(name, ops.asarray(text_columns(rows), like=like))
        self.text_names = tuple(names)

    def text(self, vocabulary: int = 0) -> Any:
        """``(embedding_dim, classes + 1)`` of one vocabulary."""
        return getattr(self, self.text_names[vocabulary])

    def features(self, x: Any) -> Any:
        """``(R, C, side, side)`` to the vectors ``(R, embedding_dim)`` that are compared."""
        return self.attnpool(self.layer4(x))

    def forward(self, x: Any, text: Any = None) -> tuple[Any, Any]:
        """Logits ``(R, classes + 1)`` and deltas ``(R, 4)``.

        Args:
            x: ``(R, C, side, side)``.
            text: ``(embedding_dim, classes + 1)``; the first vocabulary by default.
        """
        vectors = self.features(x)
        return cosine_logits(vectors, self.text() if text is None else text), self.box_out(vectors)


def text_columns(embeddings: np.ndarray) -> np.ndarray:
    """``(D, classes + 1)`` float32 of ``(classes, D)``; the last column is the background."""
    return np.pad(np.asarray(embeddings, np.float32).T, ((0, 0), (0, 1)))


def cosine_logits(vectors: Any, text: Any) -> Any:
    """Scaled cosines ``(R, K)`` of vectors ``(R, D)`` and columns ``(D, K)``; zeros give 0."""
    return ops.matmul(unit_vectors(vectors, 1), unit_vectors(text, 0)) * LOGIT_SCALE
