"""CLIP's text tower: a causal transformer read at the end of each text (Radford et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.nn import initial
from unidet.models.layers.attention import HIDDEN


@dataclass(frozen=True)
class TextLayout:
    """Which positions of a batch of texts are computed.

    Causal attention lets no position see a later one. So positions behind the last end are left
    out, and those at the start that all texts have in common are computed once. Rows of the
    network's values are first the common positions, then the own positions text by text.

    Attributes:
        ids: token of each row.
        positions: place of each row in its text.
        texts: how many texts.
        common: positions that are computed once for all.
        own: positions that are computed for each text.
        ends: row of the end of each text.
    """

    ids: np.ndarray
    positions: np.ndarray
    texts: int
    common: int
    own: int
    ends: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray) -> TextLayout:
        """The layout of ``(N, context)`` token ids; the largest id of a text is its end."""
        ends = tokens.argmax(axis=1)
        texts, length = len(tokens), int(ends.max()) + 1
        same = (tokens[:, :length] == tokens[:1, :length]).all(axis=0)
        # The end belongs to each text, or there would be no row to read.
        common = min(int(np.argmin([*same, False])), int(ends.min())) if texts > 1 else 0
        own = length - common
        places = [np.arange(common), np.tile(np.arange(common, length), texts)]
        return cls(
            np.concatenate([tokens[0, :common], tokens[:, common:length].reshape(-1)]),
            np.concatenate(places),
            texts,
            common,
            own,
            common + np.arange(texts) * own + ends - common,
        )

    def mask(self, queries: int, keys: int) -> np.ndarray:
        """``(1, 1, queries, keys)`` to add to weights: the last query sees all keys."""
        later = np.arange(keys) > np.arange(keys - queries, keys)[:, None]
        return np.where(later, np.float32(HIDDEN), np.float32(0))[None, None]


class CausalAttention(nn.Module):
    """Multi-head self-attention whose queries see no later key.

    Args:
        width: channels.
        heads: a divisor of the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(np.zeros((3 * width, width), np.float32))
        self.in_proj_bias = nn.Parameter(np.zeros(3 * width, np.float32))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Any, layout: TextLayout) -> Any:
        """``(rows, width)`` to the same shape."""
        projected = ops.linear(x, self.in_proj_weight, self.in_proj_bias)
        if not layout.common:
            return self.out_proj(self._attend(*self._by_head(projected, layout.texts), layout))
        common, own = ops.split(projected, (layout.common, layout.texts * layout.own), axis=0)
        query, key, value = self._by_head(common, 1)
        answers = [self._attend(query, key, value, layout)]
        shape = (layout.texts, *ops.shape(key)[1:])
        first_key, first_value = ops.broadcast_to(key, shape), ops.broadcast_to(value, shape)
        query, key, value = self._by_head(own, layout.texts)
        key = ops.concat([first_key, key], axis=2)
        value = ops.concat([first_value, value], axis=2)
        answers.append(self._attend(query, key, value, layout))
        return self.out_proj(ops.concat(answers, axis=0))

    def _by_head(self, rows: Any, texts: int) -> list[Any]:
        """Queries, keys and values, each ``(texts, heads, positions, depth)``."""
        depth = ops.shape(rows)[1] // (3 * self.heads)
        parts = ops.split(rows, (depth * self.heads,) * 3, axis=1)
        shape = (texts, -1, self.heads, depth)
        return [ops.transpose(ops.reshape(part, shape), (0, 2, 1, 3)) for part in parts]

    def _attend(self, query: Any, key: Any, value: Any, layout: TextLayout) -> Any:
        texts, heads, queries, depth = ops.shape(query)
        mask = ops.asarray(layout.mask(queries, ops.shape(key)[2]), like=query)
        answer = ops.scaled_dot_product_attention(query, key, value, mask)
        return ops.reshape(ops.transpose(answer, (0, 2, 1, 3)), (texts * queries, heads * depth))


class _MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        x = self.c_fc(x)
        return self.c_proj(x * ops.sigmoid(x * 1.702))  # CLIP's quick GELU


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = CausalAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = _MLP(width)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Any, layout: TextLayout) -> Any:
        x = x + self.attn(self.ln_1(x), layout)
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([_Block(width, heads) for _ in range(layers)])

    def forward(self, x: Any, layout: TextLayout) -> Any:
        for block in self.resblocks:
            x = block(x, layout)
        return x


class CLIPText(nn.Module):
    """The text tower with OpenAI's parameter names, which are those of the whole CLIP.

    Args:
        embed_dim: length of the features.
        context_length: most tokens of a text.
        vocab_size: number of tokens.
        width: channels of the transformer.
        heads: of each attention.
        layers: blocks of the transformer.
    """

    def __init__(
        self,
        embed_dim: int,
        context_length: int = 77,
        vocab_size: int = 49408,
        width: int = 512,
        heads: int = 8,
        layers: int = 12,
    ) -> None:
        super().__init__()
        self.context_length, self.vocab_size, self.embed_dim = context_length, vocab_size, embed_dim
        self.transformer = _Transformer(width, layers, heads)
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(np.zeros((context_length, width), np.float32))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(np.zeros((width, embed_dim), np.float32))

    def initial_values(self, draw: Any) -> dict[str, np.ndarray]:
        """Normal values, of deviations that shrink with width and depth, as CLIP."""
        width = ops.shape(self.positional_embedding)[1]
        deep = (2 * len(self.transformer.resblocks)) ** -0.5
        deviations = {
            "token_embedding.weight": 0.02,
            "positional_embedding": 0.01,
            "text_projection": width**-0.5,
            "in_proj_weight": width**-0.5,
            "out_proj.weight": width**-0.5 * deep,
            "c_fc.weight": (2 * width) ** -0.5,
            "c_proj.weight": width**-0.5 * deep,
        }
        values = {}
        for name, value in self.named_parameters():
            last = next((end for end in deviations if name.endswith(end)), None)
            if last is None or name.startswith("visual."):
                continue
            shape = tuple(ops.shape(value))
            values[name] = initial.normal(draw(name), shape, deviations[last])
        return values

    def encode_text(self, tokens: Any) -> Any:
        """Features of texts, not normalised.

        Args:
            tokens: ``(N, context_length)`` integers, NumPy array or tensor, as
                :class:`unidet.text.Tokenizer` makes them. Texts that start alike cost less when
                they come together.

        Returns:
            ``(N, embed_dim)``.

        Raises:
            ValueError: another shape, or a token that does not exist.
        """
        ids = tokens if isinstance(tokens, np.ndarray) else ops.to_numpy(tokens)
        self._check(ids)
        layout = TextLayout.of(ids)
        x = ops.take(self.token_embedding.weight, layout.ids.astype(np.int64))
        x = x + ops.take(self.positional_embedding, layout.positions)
        x = self.transformer(x, layout)
        return ops.matmul(self.ln_final(ops.take(x, layout.ends)), self.text_projection)

    def _check(self, ids: np.ndarray) -> None:
        if ids.ndim != 2 or ids.shape[1] != self.context_length or not len(ids):
            raise ValueError(
                f"Invalid value for `tokens`. Expected the shape (N, {self.context_length}). "
                f"Received {ids.shape}."
            )
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(
                f"Invalid value for `tokens`. Expected ids from 0 to {self.vocab_size - 1}. "
                f"Received {ids.min()} to {ids.max()}."
            )
