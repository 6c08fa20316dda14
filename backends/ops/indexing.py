"""Order and indexing. Indices are int64 tensors of the same backend, or NumPy arrays.

Results of the index kind are int64. An index that does not exist raises ``IndexError`` (torch's own
error where torch checks it).
"""

from __future__ import annotations

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor

__all__ = [
    "argsort", "sort", "topk", "take", "gather", "scatter_add", "index_put", "nonzero",
    "masked_select", "one_hot", "unique",
]  # fmt: skip


def argsort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """int64 order of the elements, always stable: lower index first at ties.

    NaN counts as the largest value.
    """
    return IMPLEMENTATION[type(x)].argsort(x, axis, descending)


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """The values in the order of :func:`argsort`."""
    return IMPLEMENTATION[type(x)].sort(x, axis, descending)


def topk(x: Tensor, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The ``k`` largest values in falling order and their int64 indices.

    At ties the lower index comes first. NaN counts as the largest value.

    Raises:
        ValueError: ``k`` is negative or exceeds the length of ``axis``.
    """
    return IMPLEMENTATION[type(x)].topk(x, k, axis)


def take(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Slices of ``x`` along ``axis``; ``indices`` of any shape replace that axis.

    Negative indices count from the end, also for the gradient.

    Raises:
        IndexError: an index is outside ``[-n, n)``.
    """
    return IMPLEMENTATION[type(x)].take(x, indices, axis)


def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """For each position, the element of its own line: ``out[i][j] = x[i][indices[i][j]]``.

    Args:
        x: ``(..., n, ...)``.
        indices: the shape of ``x`` but for ``axis``, values in ``[0, n)``.
        axis: the axis that is indexed.
    """
    return IMPLEMENTATION[type(x)].gather(x, indices, axis)


def scatter_add(x: Tensor, indices: Tensor, source: Tensor, axis: int = 0) -> Tensor:
    """``x`` with the elements of ``source`` added where ``indices`` point; duplicates add up.

    Args:
        x: ``(..., n, ...)``.
        indices: values in ``[0, n)``; either the shape of ``source`` (one target for each element,
            the adjoint of :func:`gather`) or ``(m,)``, one target for each slice along ``axis``.
        source: the dtype of ``x`` and its shape, but for ``m`` along ``axis``.
        axis: the axis that is indexed.
    """
    return IMPLEMENTATION[type(x)].scatter_add(x, indices, source, axis)


def index_put(x: Tensor, indices: Tensor, source: Tensor | float) -> Tensor:
    """``x`` with the rows at ``indices`` replaced.

    Args:
        x: ``(n, ...)``.
        indices: ``(m,)`` without duplicates; negative ones count from the end.
        source: ``(m, ...)`` of the dtype of ``x``, or a number.

    Raises:
        IndexError: an index is outside ``[-n, n)``.
    """
    return IMPLEMENTATION[type(x)].index_put(x, indices, source)


def nonzero(mask: Tensor) -> Tensor:
    """``(count, ndim)`` int64 positions of the elements that are not 0, in row-major order."""
    return IMPLEMENTATION[type(mask)].nonzero(mask)


def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """``x[mask]``: the bool ``mask`` covers the leading axes of ``x``, the others stay."""
    return IMPLEMENTATION[type(x)].masked_select(x, mask)


def one_hot(labels: Tensor, depth: int) -> Tensor:
    """``(..., depth)`` float32, 1 at the label; labels outside ``[0, depth)`` give zeros."""
    return IMPLEMENTATION[type(labels)].one_hot(labels, depth)


def unique(x: Tensor) -> Tensor:
    """``(n,)`` distinct values in rising order."""
    return IMPLEMENTATION[type(x)].unique(x)
