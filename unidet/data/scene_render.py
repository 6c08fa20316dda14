"""Draws one generated scene: coloured shapes on cluttered ground, with exact boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unidet.backends.random import stream
from unidet.data.scene_colours import drawn_classes
from unidet.data.scene_parts import (
    SHAPES,
    Patch,
    add_clutter,
    ground,
    hsv_color,
    paint,
    shape_mask,
    smooth_noise,
)
from unidet.errors import UserError, suggestion

SCENE_CLASSES = tuple(SHAPES)
#: An object is never hidden, or cut off by the border, by more than this share.
MAX_HIDDEN = 0.6
_MAX_CUT = 0.3
_FINER = 2  # scenes are drawn this much larger and reduced, for smooth edges
_MIN_SIDE = 20  # pixels


@dataclass
class Scene:
    """One generated picture.

    Attributes:
        image: ``(h, w, 3)`` uint8 RGB.
        boxes_xywh: ``(n, 4)`` float64 pixels, tight around what can be seen.
        labels: ``(n,)`` int64, index into the classes asked for, or into
            :func:`unidet.data.scene_colours.scene_class_names`.
        areas: ``(n,)`` float64, visible square pixels.
    """

    image: np.ndarray
    boxes_xywh: np.ndarray
    labels: np.ndarray
    areas: np.ndarray


def render_scene(
    seed: int,
    index: int,
    *,
    size: tuple[int, int] = (240, 320),
    classes: Sequence[str] = SCENE_CLASSES,
    max_objects: int = 6,
    colours: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Scene:
    """Draws scene ``index``; the same arguments give the same pixels.

    Args:
        seed: of the whole series.
        index: of the scene, from 0.
        size: ``(h, w)`` in pixels, 64 or more.
        classes: which of ``SCENE_CLASSES`` occur.
        max_objects: between 1 and this many objects are tried; those without room are left out.
        colours: of :data:`unidet.data.scene_colours.PALETTE`; with them a class is a colour and a
            shape, without them objects have any colour.
        without: class names that do not occur.
    """
    check_scene(size, classes)
    drawn = drawn_classes(classes, colours, without)
    rng = stream(seed, "scene", index)
    h, w = size[0] * _FINER, size[1] * _FINER
    canvas = ground(rng, (h, w))
    add_clutter(rng, canvas, int(rng.integers(6, 16)))
    owner = np.full((h, w), -1, np.int32)
    labels: list[int] = []
    whole: list[int] = []  # pixels of each object if nothing hid it
    for _ in range(int(rng.integers(1, max_objects + 1))):
        label = drawn[int(rng.integers(len(drawn)))]
        kind, shape = divmod(label, len(classes))
        colour = colours[kind] if colours else None
        patch_mask = shape_mask(rng, classes[shape], _radius(rng, min(h, w)))
        for _attempt in range(12):
            if _place(rng, canvas, owner, patch_mask, whole, colour):
                labels.append(label)
                break
    image = _develop(rng, canvas, size)
    boxes, areas = _visible(owner, len(labels))
    return Scene(image, boxes, np.array(labels, np.int64), areas)


def check_scene(size: tuple[int, int], classes: Sequence[str]) -> None:
    """Raises ``UserError`` for a size or classes that cannot be drawn."""
    if len(size) != 2 or min(size) < 64:
        raise UserError(
            f"Invalid value for `size`. Expected height and width of 64 or more. Received {size!r}."
        )
    for name in classes:
        if name not in SHAPES:
            raise UserError(
                f"Invalid value for `classes`. Expected some of {', '.join(SHAPES)}. "
                f"Received {name!r}.{suggestion(name, SHAPES)}"
            )
    if not classes or len(set(classes)) < len(classes):
        raise UserError(
            "Invalid value for `classes`. Expected at least one, each once. "
            f"Received {', '.join(classes) or 'none'}."
        )


def _radius(rng: np.random.Generator, side: int) -> float:
    """Large and small objects are equally likely on a logarithmic scale."""
    # A squeezed triangle is the narrowest shape: 1.2 radii.
    low = max(_MIN_SIDE * _FINER / 1.2, 0.075 * side)
    return float(np.exp(rng.uniform(np.log(low), np.log(max(0.24 * side, 1.3 * low)))))


def _place(
    rng: np.random.Generator,
    canvas: np.ndarray,
    owner: np.ndarray,
    mask: np.ndarray,
    whole: list[int],
    colour: str | None,
) -> bool:
    """Tries one position; draws the object and returns True where it hides too little."""
    h, w = owner.shape
    side = mask.shape[0]
    top, left = (int(rng.uniform(-0.2 * side, n - 0.8 * side)) for n in (h, w))
    rows = slice(max(top, 0), min(top + side, h))
    columns = slice(max(left, 0), min(left + side, w))
    part = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    if part.sum() < (1 - _MAX_CUT) * mask.sum():
        return False
    covered = np.bincount(owner[rows, columns][part] + 1, minlength=len(whole) + 1)[1:]
    seen = np.bincount(owner.ravel() + 1, minlength=len(whole) + 1)[1:]
    if any(s - c < (1 - MAX_HIDDEN) * n for s, c, n in zip(seen, covered, whole)):
        return False
    below = canvas[rows, columns][part].mean(axis=0)
    patch = paint(rng, mask, below, colour)
    _cast_shadow(rng, canvas, mask, top, left)
    _paste(canvas, patch, rows, columns, top, left)
    owner[rows, columns][part] = len(whole)
    whole.append(int(mask.sum()))
    return True


def _paste(
    canvas: np.ndarray, patch: Patch, rows: slice, columns: slice, top: int, left: int
) -> None:
    inner = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    part = patch.mask[inner]
    canvas[rows, columns][part] = patch.pixels[inner][part]


def _cast_shadow(
    rng: np.random.Generator, canvas: np.ndarray, mask: np.ndarray, top: int, left: int
) -> None:
    h, w = canvas.shape[:2]
    blur = max(3, mask.shape[0] // 10)
    padded = np.pad(mask.astype(np.float32), 2 * blur)
    soft = cv2.GaussianBlur(padded, (0, 0), blur / 2) * rng.uniform(0.2, 0.5)
    dy, dx = (int(v) for v in rng.uniform(-blur, blur, 2))
    y, x = top + dy - 2 * blur, left + dx - 2 * blur
    rows = slice(max(y, 0), min(y + soft.shape[0], h))
    columns = slice(max(x, 0), min(x + soft.shape[1], w))
    part = soft[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    canvas[rows, columns] *= 1 - part[..., None]


def _develop(rng: np.random.Generator, canvas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Reduces, lights unevenly, blurs and adds sensor noise: what a camera would do."""
    h, w = size
    image = cv2.resize(canvas, (w, h), interpolation=cv2.INTER_AREA)
    image = image * (1 + 0.14 * smooth_noise(rng, size, 2))
    tint = hsv_color(rng, (0.0, 0.2), (0.85, 1.0)) / 240
    image = (image - 110) * rng.uniform(0.85, 1.15) + 110 * rng.uniform(0.9, 1.1)
    image = image * tint
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    image = image + rng.normal(0, rng.uniform(1, 6), image.shape)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _visible(owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    boxes, areas = np.zeros((count, 4)), np.zeros(count)
    for k in range(count):
        mask = owner == k
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y = columns[0], rows[0]
        boxes[k] = np.array([x, y, columns[-1] + 1 - x, rows[-1] + 1 - y]) / _FINER
        areas[k] = mask.sum() / _FINER**2
    return boxes, areas
