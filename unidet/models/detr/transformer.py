"""DETR's transformer: encoder and decoder with the norm behind each part (Carion et al. 2020).

Sequences are ``(N, length, width)``. Positions are added to queries and keys, never to values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.nn import initial
from unidet.models.layers.attention import MultiheadAttention


@dataclass(frozen=True)
class Dropouts:
    """Probabilities of leaving values out in training.

    Attributes:
        residual: of what attention and feed-forward layers add to their input.
        attention: of the weights of attention.
        activation: between the two feed-forward layers.
        input: of what the encoder receives.
    """

    residual: float = 0.1
    attention: float = 0.1
    activation: float = 0.1
    input: float = 0.0


class _Layer(nn.Module):
    """What encoder and decoder layers share: self-attention and the feed-forward part."""

    def __init__(self, width: int, heads: int, feedforward: int, drop: Dropouts) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(width, heads, drop.attention)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.drop = nn.Dropout(drop.residual)
        self.drop_activation = nn.Dropout(drop.activation)

    def _attend(self, x: Any, pos: Any, mask: Any = None) -> Any:
        placed = x + pos
        return self.norm1(x + self.drop(self.self_attn(placed, placed, x, mask)))

    def _feed_forward(self, x: Any) -> Any:
        hidden = self.drop_activation(ops.relu(self.linear1(x)))
        return x + self.drop(self.linear2(hidden))


class EncoderLayer(_Layer):
    """Cells of the image look at each other."""

    def forward(self, x: Any, pos: Any, mask: Any) -> Any:
        """``(N, S, width)`` to the same shape."""
        return self.norm2(self._feed_forward(self._attend(x, pos, mask)))


class DecoderLayer(_Layer):
    """Queries look at each other, then at the image."""

    def __init__(self, width: int, heads: int, feedforward: int, drop: Dropouts) -> None:
        super().__init__(width, heads, feedforward, drop)
        self.multihead_attn = MultiheadAttention(width, heads, drop.attention)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Any, query: Any, memory: Any, key: Any, mask: Any) -> Any:
        """``(N, Q, width)`` to the same shape.

        Args:
            x: hidden states of the queries.
            query: position of each query, ``(N, Q, width)``.
            memory: output of the encoder, ``(N, S, width)``.
            key: memory with its positions.
            mask: hides padding.
        """
        x = self._attend(x, query)
        x = self.norm2(x + self.drop(self.multihead_attn(x + query, key, memory, mask)))
        return self.norm3(self._feed_forward(x))


class _Encoder(nn.Module):
    def __init__(self, layers: list[EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Any, pos: Any, mask: Any) -> Any:
        for layer in self.layers:
            x = layer(x, pos, mask)
        return x


class _Decoder(nn.Module):
    def __init__(self, layers: list[DecoderLayer], width: int, renormalise: bool) -> None:
        super().__init__()
        self.renormalise = renormalise
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Any, query: Any, memory: Any, pos: Any, mask: Any, all_layers: bool
    ) -> list[Any]:
        key, hidden_states = memory + pos, []
        for layer in self.layers:
            x = layer(x, query, memory, key, mask)
            if self.renormalise:
                x = self.norm(x)
            hidden_states.append(x)
        first = hidden_states[:-1] if all_layers else []
        if not self.renormalise:
            first = [self.norm(state) for state in first]
        return [*first, self.norm(x)]


class Transformer(nn.Module):
    """Encoder and decoder.

    Args:
        width: channels.
        heads: of each attention.
        encoder_layers: how many.
        decoder_layers: how many.
        feedforward: channels between the two feed-forward layers.
        drop: what is left out in training.
        renormalise: decoder layers receive the normed output of the one before.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        encoder_layers: int,
        decoder_layers: int,
        feedforward: int,
        drop: Dropouts,
        renormalise: bool = False,
    ) -> None:
        super().__init__()
        sizes = (width, heads, feedforward, drop)
        self.encoder = _Encoder([EncoderLayer(*sizes) for _ in range(encoder_layers)])
        layers = [DecoderLayer(*sizes) for _ in range(decoder_layers)]
        self.decoder = _Decoder(layers, width, renormalise)
        self.drop_input = nn.Dropout(drop.input)

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """Xavier's uniform distribution for all_layers matrix; layers know the rest."""
        shapes = {name: tuple(ops.shape(value)) for name, value in self.named_parameters()}
        return {
            name: initial.xavier_uniform(draw(name), shape)
            for name, shape in shapes.items()
            if len(shape) == 2
        }

    def forward(self, tokens: Any, pos: Any, query: Any, mask: Any, all_layers: bool) -> list[Any]:
        """Hidden states of the queries.

        Args:
            tokens: features of the image, ``(N, S, width)``.
            pos: their positions, ``(N, S, width)``.
            query: position of each query, ``(N, Q, width)``.
            mask: hides padding, ``(N, 1, 1, S)``, or None.
            all_layers: the output of all_layers decoder layer, not of the last alone.

        Returns:
            ``(N, Q, width)`` for each layer, the last one at the end.
        """
        memory = self.encoder(self.drop_input(tokens), pos, mask)
        zeros = ops.zeros(ops.shape(query), ops.dtype(query), like=query)
        hidden_states: list[Any] = self.decoder(zeros, query, memory, pos, mask, all_layers)
        return hidden_states
