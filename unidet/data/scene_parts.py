"""Parts of generated scenes: background, clutter, shapes and their surfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from unidet.data.scene_colours import shade

Rng = np.random.Generator


def _regular(corners: int, inner: float | None = None) -> np.ndarray:
    """``(n, 2)`` points on the unit circle; every second at ``inner`` for stars."""
    count = corners if inner is None else 2 * corners
    angle = 2 * np.pi * np.arange(count) / count - np.pi / 2
    radius = np.ones(count)
    if inner is not None:
        radius[1::2] = inner
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]


def _cross(arm: float = 0.33) -> np.ndarray:
    a, b = arm, 0.94
    quarter = np.array([[a, -b], [a, -a], [b, -a]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    parts = [quarter]
    for _ in range(3):
        parts.append(parts[-1] @ turn)
    return np.concatenate(parts)


#: Outline of each class inside the unit circle, and the radius of the hole, 0 for none.
SHAPES: dict[str, tuple[np.ndarray, float]] = {
    "disc": (_regular(48), 0.0),
    "ring": (_regular(48), 0.56),
    "square": (_regular(4), 0.0),
    "triangle": (_regular(3), 0.0),
    "star": (_regular(5, 0.42), 0.0),
    "cross": (_cross(), 0.0),
}


@dataclass
class Patch:
    """One object before it is placed.

    Attributes:
        mask: ``(d, d)`` bool.
        pixels: ``(d, d, 3)`` float32 RGB, 0 to 255.
    """

    mask: np.ndarray
    pixels: np.ndarray


def smooth_noise(rng: Rng, size: tuple[int, int], cells: int, channels: int = 1) -> np.ndarray:
    """``(h, w, channels)`` float32 in -1..1 that varies over about ``1 / cells`` of the height."""
    h, w = size
    grid = rng.uniform(-1, 1, (cells + 2, max(2, round(cells * w / h)) + 2, channels))
    fine = cv2.resize(grid.astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    return np.clip(fine.reshape(h, w, channels), -1, 1)


def hsv_color(rng: Rng, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """A random RGB colour, float32 0 to 255."""
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)]]])
    rgb: np.ndarray = cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB)[0, 0] * 255
    return rgb


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """How different two RGB colours look: Euclidean in CIE Lab."""
    pair = np.stack([a, b])[None].astype(np.float32) / 255
    lab = cv2.cvtColor(pair, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


def ground(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """``(h, w, 3)`` float32 RGB: two muted colours mixed by noise, sometimes tiled or striped."""
    h, w = size
    first = hsv_color(rng, (0.05, 0.4), (0.25, 0.85))
    second = np.clip(first + rng.normal(0, 28, 3), 10, 245)
    mix = 0.5 + 0.5 * smooth_noise(rng, size, int(rng.integers(2, 5)))
    mix = mix + 0.25 * smooth_noise(rng, size, int(rng.integers(10, 25)))
    kind = rng.choice(["plain", "stripes", "tiles", "grain"])
    if kind != "plain":
        mix = mix + 0.3 * _pattern(rng, (h, w), kind, scale=rng.uniform(0.06, 0.2) * h)
    mix = np.clip(mix, 0, 1)
    canvas = first * (1 - mix) + second * mix
    canvas = canvas + 9 * smooth_noise(rng, size, 40, 3)
    return canvas.astype(np.float32)


def _pattern(rng: Rng, size: tuple[int, int], kind: str, scale: float) -> np.ndarray:
    """``(h, w, 1)`` in -1..1 of period ``scale`` pixels, at a random angle."""
    h, w = size
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    u = (x * np.cos(angle) + y * np.sin(angle)) / scale + rng.uniform()
    v = (y * np.cos(angle) - x * np.sin(angle)) / scale + rng.uniform()
    if kind == "stripes":
        wave = np.sign(np.sin(2 * np.pi * u))
    elif kind == "tiles":
        wave = np.sign(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v))
    elif kind == "dots":
        wave = np.where(((u % 1) - 0.5) ** 2 + ((v % 1) - 0.5) ** 2 < 0.09, 1.0, -1.0)
    else:  # grain: stripes bent by noise, like wood
        wave = np.sin(2 * np.pi * (u + 0.8 * smooth_noise(rng, size, 3)[..., 0]))
    return wave[..., None].astype(np.float32)


def _curve(rng: Rng, canvas: np.ndarray, color: tuple[float, ...]) -> None:
    h, w = canvas.shape[:2]
    steps = rng.normal(0, 0.09 * h, (int(rng.integers(4, 12)), 2)).cumsum(axis=0)
    points = (steps + rng.uniform(0, 1, 2) * (w, h)).astype(np.int32)
    thick = int(rng.integers(1, max(2, h // 80) + 1))
    cv2.polylines(canvas, [points], False, color, thick, cv2.LINE_AA)


#: Ends of the strokes of a letter in a cell one wide and two high, y downwards: the seven of a
#: digital clock (a to g) and two diagonals.
_STROKES = {
    "a": ((0, 0), (1, 0)),
    "b": ((1, 0), (1, 1)),
    "c": ((1, 1), (1, 2)),
    "d": ((0, 2), (1, 2)),
    "e": ((0, 1), (0, 2)),
    "f": ((0, 0), (0, 1)),
    "g": ((0, 1), (1, 1)),
    "x": ((0, 0), (1, 2)),
    "y": ((1, 0), (0, 2)),
}
_LETTERS = (
    *("abcefg", "abcdefg", "adefg", "aefg", "acdef", "bcefg", "efxy", "bcefgx", "bcefx", "abefg"),
    *("abefgx", "acdfg", "bcefy", "ady", "abdeg", "abcdg", "bcfg", "acdfx", "abc"),
)


def _glyph(rng: Rng, canvas: np.ndarray, color: tuple[float, ...]) -> None:
    # Not OpenCV's text: its letters change with the version, and with them the scenes of a seed.
    h, w = canvas.shape[:2]
    letters = rng.choice(_LETTERS, int(rng.integers(1, 4)))
    x, y = rng.uniform(0, 0.9) * w, rng.uniform(0.1, 1) * h
    side = h / 480 * rng.uniform(0.6, 2.2) * 11
    for place, letter in enumerate(letters):
        for stroke in letter:
            start, end = (
                (int(x + (1.6 * place + dx) * side), int(y + (dy - 2) * side))
                for dx, dy in _STROKES[stroke]
            )
            cv2.line(canvas, start, end, color, max(1, h // 160), cv2.LINE_AA)


def _blob(rng: Rng, canvas: np.ndarray, color: tuple[float, ...]) -> None:
    """An irregular lump that is none of the classes."""
    h, w = canvas.shape[:2]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    phase, weight = rng.uniform(0, 6.3, 4), rng.uniform(0.08, 0.3, 4)
    radius = 1 + sum(weight[k] * np.cos((k + 2) * angle + phase[k]) for k in range(4))
    radius = radius * rng.uniform(0.03, 0.11) * h
    centre = rng.uniform(0, 1, 2) * (w, h)
    points = centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cv2.fillPoly(canvas, [points.astype(np.int32)], color, cv2.LINE_AA)


def add_clutter(rng: Rng, canvas: np.ndarray, count: int) -> None:
    """Draws lines, letters and lumps into the ground, in colours close to it."""
    makers: list[Callable[[Rng, np.ndarray, tuple[float, ...]], None]] = [_curve, _glyph, _blob]
    h, w = canvas.shape[:2]
    for _ in range(count):
        below = canvas[int(rng.integers(h)), int(rng.integers(w))]
        color = np.clip(below + rng.normal(0, 40, 3), 0, 255)
        makers[int(rng.integers(len(makers)))](rng, canvas, tuple(map(float, color)))


def shape_mask(rng: Rng, name: str, radius: float) -> np.ndarray:
    """``(d, d)`` bool: the shape turned, slightly squeezed, of circumscribed ``radius`` pixels."""
    outline, hole = SHAPES[name]
    squeeze = np.diag([1.0, rng.uniform(0.8, 1.0)])
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    side = int(2 * np.ceil(radius) + 3)
    mask = np.zeros((side, side), np.uint8)
    parts = [outline] if not hole else [outline, outline * hole * rng.uniform(0.9, 1.1)]
    points = [np.round((p @ squeeze @ turn) * radius + side / 2).astype(np.int32) for p in parts]
    cv2.fillPoly(mask, points, (1,))  # even-odd, so that the second outline is a hole
    return mask.astype(bool)


def paint(rng: Rng, mask: np.ndarray, below: np.ndarray, colour: str | None = None) -> Patch:
    """Gives a shape a surface that stands out from the mean colour ``below`` it.

    Args:
        rng: of the scene.
        mask: ``(d, d)`` bool, the shape.
        below: RGB.
        colour: of :data:`unidet.data.scene_colours.PALETTE`; None: any.
    """
    if colour is None:
        choices = [hsv_color(rng, (0.55, 1.0), (0.55, 1.0)) for _ in range(6)]
    else:
        choices = [shade(rng, colour) for _ in range(6)]
    color = max(choices[:3], key=lambda c: distance(c, below))
    if distance(color, below) < 45:
        color = max(choices, key=lambda c: distance(c, below))
    side = mask.shape[0]
    kind = str(rng.choice(["flat", "flat", "stripes", "tiles", "dots", "grain"]))
    pixels = np.broadcast_to(color, (side, side, 3)).astype(np.float32)
    if kind != "flat":
        wave = _pattern(rng, (side, side), kind, side * rng.uniform(0.16, 0.34))
        pixels = pixels * (1 + rng.uniform(0.12, 0.28) * wave)
    # Light from one side, and a darker rim.
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.2 * (x * np.cos(angle) + y * np.sin(angle))
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    rim = np.where(inside < max(1.5, 0.04 * side), rng.uniform(0.5, 0.95), 1.0)
    return Patch(mask, np.clip(pixels * (light * rim)[..., None], 0, 255).astype(np.float32))
