"""Multi-head attention (Vaswani et al. 2017) with the parameter names of torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.nn import initial

#: Added to the weight of a key that nobody may see; exp of it is 0 in single precision.
HIDDEN = -1e9


class MultiheadAttention(nn.Module):
    """Attention of ``heads`` parts of the channels, each on its own.

    Args:
        width: channels of queries, keys and values.
        heads: a divisor of the width.
        dropout: probability with which a weight is left out in training.

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(
                f"Invalid value for `heads`. Expected a divisor of {width}. Received {heads}."
            )
        self.width, self.heads, self.dropout = width, heads, dropout
        #: Never called: whoever switches all dropout off finds it.
        self.drop = nn.Dropout(dropout)
        self.in_proj_weight = nn.Parameter(np.zeros((3 * width, width), np.float32))
        self.in_proj_bias = nn.Parameter(np.zeros(3 * width, np.float32))
        self.out_proj = nn.Linear(width, width)

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """Xavier's uniform matrices, biases 0."""
        width = self.width
        return {
            "in_proj_weight": initial.xavier_uniform(draw("in_proj_weight"), (3 * width, width)),
            "in_proj_bias": np.zeros(3 * width, np.float32),
            "out_proj.weight": initial.xavier_uniform(draw("out_proj.weight"), (width, width)),
            "out_proj.bias": np.zeros(width, np.float32),
        }

    def forward(self, query: Any, key: Any, value: Any, mask: Any = None) -> Any:
        """``(N, L, width)`` that looks at ``(N, S, width)``.

        Args:
            query: ``(N, L, width)``.
            key: ``(N, S, width)``; the query itself where both are the same.
            value: ``(N, S, width)``.
            mask: added to the weights, broadcast to ``(N, heads, L, S)``.

        Returns:
            ``(N, L, width)``.
        """
        width = self.width
        if key is query:
            # One product in place of two.
            matrix, last = ops.split(self.in_proj_weight, (2 * width, width), axis=0)
            bias, last_bias = ops.split(self.in_proj_bias, (2 * width, width), axis=0)
            both = ops.linear(query, matrix, bias)
            projected = [*ops.split(both, (width, width), axis=2)]
            projected.append(ops.linear(value, last, last_bias))
        else:
            matrices = ops.split(self.in_proj_weight, (width,) * 3, axis=0)
            biases = ops.split(self.in_proj_bias, (width,) * 3, axis=0)
            projected = [
                ops.linear(x, w, b) for x, w, b in zip((query, key, value), matrices, biases)
            ]
        answer = ops.scaled_dot_product_attention(
            *[self._by_head(x) for x in projected],
            mask=mask,
            dropout=self.dropout if self.drop.training else 0.0,
        )
        joined = ops.reshape(ops.transpose(answer, (0, 2, 1, 3)), ops.shape(query))
        return self.out_proj(joined)

    def _by_head(self, x: Any) -> Any:
        count, length, width = ops.shape(x)
        # (N, S, heads, d) -> (N, heads, S, d)
        parts = ops.reshape(x, (count, length, self.heads, width // self.heads))
        return ops.transpose(parts, (0, 2, 1, 3))


def padding_mask(valid: np.ndarray) -> np.ndarray:
    """What hides padding from attention.

    Args:
        valid: ``(N, S)`` bool, True for a key that belongs to the image.

    Returns:
        ``(N, 1, 1, S)`` float32 to add to weights. Where a row has no valid key at all, all count
        alike.
    """
    return np.where(valid, np.float32(0), np.float32(HIDDEN))[:, None, None, :]
