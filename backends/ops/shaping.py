"""Operations that move values without computing. A result may share memory with its argument."""

from __future__ import annotations

from collections.abc import Sequence

from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor

__all__ = [
    "reshape", "transpose", "expand_dims", "squeeze", "concat", "stack", "split", "flip", "pad",
    "broadcast_to", "tile",
]  # fmt: skip


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The elements in row-major order in another shape; one length may be -1."""
    return IMPLEMENTATION[type(x)].reshape(x, shape)


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Axis ``i`` of the result is axis ``axes[i]`` of ``x``."""
    return IMPLEMENTATION[type(x)].transpose(x, axes)


def expand_dims(x: Tensor, axis: int) -> Tensor:
    """A new axis of length 1 before ``axis``."""
    return IMPLEMENTATION[type(x)].expand_dims(x, axis)


def squeeze(x: Tensor, axis: int) -> Tensor:
    """Without ``axis``.

    Raises:
        ValueError: the length of ``axis`` is not 1.
    """
    return IMPLEMENTATION[type(x)].squeeze(x, axis)


def concat(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one dtype and rank end to end along ``axis``."""
    return IMPLEMENTATION[type(xs[0])].concat(xs, axis)


def stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one dtype and shape along a new ``axis``.

    Scalars (``()`` on torch, ``(1,)`` on Jittor) become ``(n,)`` and ``(n, 1)``: reshape them.
    """
    return IMPLEMENTATION[type(xs[0])].stack(xs, axis)


def split(x: Tensor, sizes: Sequence[int], axis: int = 0) -> list[Tensor]:
    """Consecutive pieces of the given lengths along ``axis``.

    Raises:
        ValueError: the lengths do not add up to that of ``axis``.
    """
    return IMPLEMENTATION[type(x)].split(x, sizes, axis)


def flip(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    """Reversed order along ``axis``."""
    return IMPLEMENTATION[type(x)].flip(x, axis)


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0) -> Tensor:
    """``value`` around ``x``: ``(before, after)`` for each axis."""
    return IMPLEMENTATION[type(x)].pad(x, widths, value)


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` repeated along its axes of length 1 and new leading ones."""
    return IMPLEMENTATION[type(x)].broadcast_to(x, shape)


def tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    """``x`` repeated ``repeats[i]`` times along axis ``i``; one number for each axis."""
    return IMPLEMENTATION[type(x)].tile(x, repeats)
