"""Anchor boxes of a feature pyramid, made on the host and cached by input size.

Published detectors disagree on everything that matters here (rounding, where in its cell an
anchor sits, what the stride of a level is, the order within a cell), so each is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from unidet.files.shown import shown

#: Anchor sets kept for input sizes met before.
CACHE_SIZE = 16


def octave_sizes(
    bases: Sequence[float] = (32, 64, 128, 256, 512), scales_per_octave: int = 3
) -> tuple[tuple[float, ...], ...]:
    """Sizes of each level: ``base * 2 ** (i / n)`` (Lin et al. 2017, section 4)."""
    return tuple(
        tuple(base * 2 ** (i / scales_per_octave) for i in range(scales_per_octave))
        for base in bases
    )


def truncated_octave_sizes(
    bases: Sequence[int] = (32, 64, 128, 256, 512), scales_per_octave: int = 3
) -> tuple[tuple[float, ...], ...]:
    """:func:`octave_sizes` cut to whole pixels, as torchvision lists them."""
    return tuple(
        tuple(float(int(size)) for size in level)
        for level in octave_sizes(bases, scales_per_octave)
    )


class AnchorGenerator:
    """Anchors of all levels for a padded input.

    Args:
        sizes: for each level the square roots of the anchor areas, in pixels.
        ratios: height over width.
        strides: nominal stride of each level, in pixels.
        rounding: round the corners of the anchors around the origin to whole pixels.
        offset: where the centre lies in its cell, in strides: 0 (its corner) or 0.5 (its middle).
        stride_rule: ``"nominal"``, or ``"measured"``: padded side // feature side, which is
            smaller where the feature map was rounded up.
        order: the outer loop within a cell, ``"ratio"`` or ``"size"``.

    Raises:
        ValueError: an unknown rule, or lists of different lengths.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        *,
        rounding: bool = False,
        offset: float = 0.0,
        stride_rule: str = "nominal",
        order: str = "ratio",
    ) -> None:
        if len({len(level) for level in sizes}) != 1 or len(sizes) != len(strides):
            raise ValueError(
                "Invalid value for `anchor_sizes`. Expected equally long lists, one for each of "
                f"{len(strides)} strides. Received {[len(level) for level in sizes]} sizes."
            )
        for name, value, allowed in (
            ("anchor_stride_rule", stride_rule, ("nominal", "measured")),
            ("anchor_order", order, ("ratio", "size")),
        ):
            if value not in allowed:
                raise ValueError(
                    f"Invalid value for `{name}`. Expected one of {allowed}. "
                    f"Received {shown(value)}."
                )
        self.strides = tuple(int(stride) for stride in strides)
        self.offset = float(offset)
        self.stride_rule = stride_rule
        self.cells = [_cell(level, ratios, rounding, order) for level in sizes]
        self._cache: OrderedDict[tuple, tuple[tuple[np.ndarray, ...], np.ndarray]] = OrderedDict()

    @property
    def per_cell(self) -> int:
        """Anchors in one cell."""
        return len(self.cells[0])

    def __call__(
        self, input_size: tuple[int, int], level_shapes: Sequence[tuple[int, int]]
    ) -> tuple[np.ndarray, ...]:
        """Anchors of each level.

        Args:
            input_size: padded ``(height, width)`` of the network's input.
            level_shapes: ``(height, width)`` of each feature map.

        Returns:
            For each level ``(height * width * per_cell, 4)`` float32 corners in pixels of the
            input, row by row, anchors of one cell together. Not to be written to.
        """
        key = (tuple(input_size), tuple(tuple(shape) for shape in level_shapes))
        if key not in self._cache:
            levels = self._make(*key)
            joined = np.concatenate(levels)
            joined.setflags(write=False)
            self._cache[key] = (levels, joined)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key][0]

    def all_levels(
        self, input_size: tuple[int, int], level_shapes: Sequence[tuple[int, int]]
    ) -> np.ndarray:
        """The same anchors as one ``(A, 4)`` array."""
        self(input_size, level_shapes)
        return next(reversed(self._cache.values()))[1]

    def _make(
        self, input_size: tuple[int, int], level_shapes: tuple[tuple[int, int], ...]
    ) -> tuple[np.ndarray, ...]:
        if len(level_shapes) != len(self.cells):
            raise ValueError(
                f"Invalid value for `level_shapes`. Expected {len(self.cells)} levels. "
                f"Received {len(level_shapes)}."
            )
        levels = []
        for cell, nominal, shape in zip(self.cells, self.strides, level_shapes):
            step = (nominal, nominal)
            if self.stride_rule == "measured":
                step = (input_size[0] // shape[0], input_size[1] // shape[1])
            y = (np.arange(shape[0]) + self.offset) * step[0]
            x = (np.arange(shape[1]) + self.offset) * step[1]
            shift = np.stack(np.broadcast_arrays(x, y[:, None], x, y[:, None]), axis=-1)
            # (h, w, 1, 4) + (k, 4) -> (h * w * k, 4)
            anchors = (shift[:, :, None] + cell).reshape(-1, 4).astype(np.float32)
            anchors.setflags(write=False)
            levels.append(anchors)
        return tuple(levels)


def _cell(
    sizes: Sequence[float], ratios: Sequence[float], rounding: bool, order: str
) -> np.ndarray:
    """``(k, 4)`` float64 corners of the anchors centred on the origin."""
    root = np.sqrt(np.asarray(ratios, np.float64))[:, None]  # height over width is root ** 2
    size = np.asarray(sizes, np.float64)[None, :]
    half = np.stack([size / root, size * root], axis=-1) / 2  # (ratio, size, [w, h])
    if order == "size":
        half = half.transpose(1, 0, 2)
    half = half.reshape(-1, 2)
    corners = np.concatenate([-half, half], axis=1)
    return np.round(corners) if rounding else corners
