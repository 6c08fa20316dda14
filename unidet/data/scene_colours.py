"""Colours of generated scenes whose classes are combinations, such as "red disc"."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from unidet.errors import UserError, suggestion

#: Hue in degrees with its spread, and the ranges of saturation and value. The neighbours are so far
#: apart that the light of a scene, which tints it, leaves them different.
PALETTE: dict[str, tuple[float, float, tuple[float, float], tuple[float, float]]] = {
    "red": (0.0, 8.0, (0.8, 1.0), (0.65, 1.0)),
    "orange": (30.0, 5.0, (0.85, 1.0), (0.85, 1.0)),
    "yellow": (56.0, 5.0, (0.75, 1.0), (0.85, 1.0)),
    "green": (120.0, 16.0, (0.7, 1.0), (0.45, 0.85)),
    "cyan": (182.0, 7.0, (0.7, 1.0), (0.75, 1.0)),
    "blue": (226.0, 12.0, (0.75, 1.0), (0.55, 1.0)),
    "purple": (280.0, 9.0, (0.65, 1.0), (0.45, 0.8)),
    "pink": (328.0, 8.0, (0.45, 0.7), (0.9, 1.0)),
}


def scene_class_names(shapes: Sequence[str], colours: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the classes: the shapes, or each colour with each shape, colour after colour."""
    if not colours:
        return tuple(shapes)
    return tuple(f"{colour} {shape}" for colour in colours for shape in shapes)


def drawn_classes(
    shapes: Sequence[str], colours: Sequence[str] = (), without: Sequence[str] = ()
) -> list[int]:
    """Labels that occur in pictures, rising.

    Args:
        shapes: checked already.
        colours: of :data:`PALETTE`; none: classes are shapes, in any colour.
        without: class names that never occur.

    Raises:
        UserError: an unknown name, one given twice, or nothing left to draw.
    """
    for name in colours:
        if name not in PALETTE:
            raise UserError(
                f"Invalid value for `colours`. Expected some of {', '.join(PALETTE)}. "
                f"Received {name!r}.{suggestion(name, PALETTE)}"
            )
    if len(set(colours)) < len(colours):
        raise UserError(
            f"Invalid value for `colours`. Expected each once. Received {', '.join(colours)}."
        )
    names = scene_class_names(shapes, colours)
    for name in without:
        if name not in names:
            raise UserError(
                f"Invalid value for `without`. Expected some of {', '.join(names)}. "
                f"Received {name!r}.{suggestion(name, names)}"
            )
    left = [label for label, name in enumerate(names) if name not in without]
    if not left:
        raise UserError(
            "Invalid value for `without`. Expected a class that is left to draw. Received all "
            f"{len(names)}."
        )
    return left


def shade(rng: np.random.Generator, colour: str) -> np.ndarray:
    """A shade of a colour of :data:`PALETTE`: RGB, float32 0 to 255."""
    hue, spread, saturation, value = PALETTE[colour]
    turned = (hue + rng.uniform(-spread, spread)) % 360
    hsv = np.array([[[turned, rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    rgb: np.ndarray = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * 255
    return rgb
