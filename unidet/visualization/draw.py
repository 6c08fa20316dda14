"""Boxes and labels on images, with OpenCV."""

from __future__ import annotations

import colorsys
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from unidet.data import images
from unidet.files.outputs import make_parent
from unidet.structures import Detections, Targets

_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Hues in degrees that people name differently, neighbours far apart; then shades of them.
_HUES = (0, 210, 52, 130, 300, 28, 180, 265, 85, 330)
_SHADES = ((0.85, 1.0), (1.0, 0.62), (0.42, 1.0))
_Colour = tuple[int, int, int]
_Rect = tuple[int, int, int, int]


def write_image(path: str | Path, image: np.ndarray) -> Path:
    """Writes ``(h, w, 3)`` uint8 RGB in the format of the file's suffix; makes the folder.

    Raises:
        UserError: the suffix is unknown or the folder cannot be written.
        RunFailedError: the system refused the write, as on a full disk.
    """
    target = make_parent(path)
    images.write_image(target, image)
    return target


def class_colour(label: int) -> _Colour:
    """A colour (r, g, b) of a class; neighbouring labels get colours far apart."""
    cycle = label // len(_HUES)
    hue = (_HUES[label % len(_HUES)] / 360 + 0.04 * (cycle // len(_SHADES))) % 1.0
    saturation, value = _SHADES[cycle % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    image: np.ndarray, detections: Detections, *, score_threshold: float = 0.0
) -> np.ndarray:
    """A copy of the image with boxes, class names and scores, the surest on top.

    Args:
        image: ``(h, w, 3)`` uint8 RGB.
        detections: boxes in pixels of that image.
        score_threshold: lower scores are not drawn.
    """
    shown = detections.above(score_threshold)
    shown = shown[np.argsort(shown.scores, kind="stable")]
    texts = [f"{name} {score:.2f}" for name, score in zip(shown.names(), shown.scores)]
    return _draw(image, shown.boxes_xyxy, shown.labels, texts)


def draw_targets(
    image: np.ndarray, targets: Targets, class_names: Sequence[str] | None = None
) -> np.ndarray:
    """A copy of the image with ground-truth boxes; crowd and ignored objects are marked so.

    Args:
        image: ``(h, w, 3)`` uint8 RGB.
        targets: boxes in pixels of that image.
        class_names: names of all classes; labels are shown as numbers without them.
    """
    names = Detections(
        targets.boxes_xyxy,
        np.ones(len(targets), np.float32),
        targets.labels,
        None if class_names is None else tuple(class_names),
    ).names()
    texts = [
        name + (" (crowd)" if crowd else "") + (" (ignored)" if ignore else "")
        for name, crowd, ignore in zip(names, targets.crowd, targets.ignore)
    ]
    return _draw(image, targets.boxes_xyxy, targets.labels, texts)


def text_scale(image: np.ndarray) -> float:
    """Font scale at which a label reads well on the image."""
    side = math.sqrt(image.shape[0] * image.shape[1])
    return min(max(side / 1100, 0.36), 2.5)


def _draw(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, texts: Sequence[str]
) -> np.ndarray:
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    scale = text_scale(canvas)
    line = max(1, round(scale * 3.2))
    finite = np.isfinite(boxes).all(axis=1)
    corners = np.clip(
        np.rint(np.where(finite[:, None], boxes, 0)), 0, [width - 1, height - 1] * 2
    ).astype(int)
    rects: list[_Rect] = [(c[0], c[1], c[2], c[3]) for c in corners.tolist()]
    for rect, label, drawn in zip(rects, labels.tolist(), finite):
        if drawn:
            _outline(canvas, rect, class_colour(label), line)
    taken: list[_Rect] = []
    # The surest come last and choose the place of their label first.
    for index in reversed(range(len(rects))):
        if finite[index]:
            colour = class_colour(int(labels[index]))
            fitted = _fitted_scale(rects[index], scale)
            taken.append(_label(canvas, rects[index], texts[index], colour, fitted, taken))
    return canvas


def _fitted_scale(rect: _Rect, scale: float) -> float:
    """The font scale, reduced for small boxes, whose labels would hide their neighbours."""
    side = math.sqrt(max(1, rect[2] - rect[0]) * max(1, rect[3] - rect[1]))
    return max(min(scale, 0.36), scale * min(1.0, max(0.6, side / (150 * scale))))


def _outline(canvas: np.ndarray, rect: _Rect, colour: _Colour, line: int) -> None:
    x1, y1, x2, y2 = rect
    # A dark rim keeps a bright box visible on a bright photo.
    if min(x2 - x1, y2 - y1) > 6 * line:
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), line + 2)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, line)


def _label(
    canvas: np.ndarray,
    rect: _Rect,
    text: str,
    colour: _Colour,
    scale: float,
    taken: Sequence[_Rect],
) -> _Rect:
    """Writes the text at the first free place along the box; returns the place."""
    thickness = max(1, round(scale * 1.8))
    text = plain(text)
    (text_width, text_height), base = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(2, round(4 * scale))
    size = (text_width + 2 * margin, text_height + base + margin)
    place = _place(rect, size, canvas.shape[1], canvas.shape[0], taken)
    cv2.rectangle(canvas, place[:2], (place[2] - 1, place[3] - 1), colour, cv2.FILLED)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luminance > 120 else (255, 255, 255)
    origin = (place[0] + margin, place[1] + text_height + margin // 2 + 1)
    cv2.putText(canvas, text, origin, _FONT, scale, ink, thickness, cv2.LINE_AA)
    return place


def _place(
    rect: _Rect, size: tuple[int, int], width: int, height: int, taken: Sequence[_Rect]
) -> _Rect:
    x1, y1, x2, y2 = rect
    w, h = size
    # Above, inside at the top, below, inside at the bottom; at the left and then the right corner.
    tops = (y1 - h, y1, y2, y2 - h)
    candidates = [(x, y) for x in (x1, x2 - w) for y in tops]
    inside = [(x, y) for x, y in candidates if y >= 0 and y + h <= height] or [(x1, y1)]
    places = [
        (left, top, left + w, top + h)
        for x, y in inside
        for left, top in [(max(0, min(x, width - w)), max(0, min(y, height - h)))]
    ]
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(a: _Rect, b: _Rect) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def plain(text: str) -> str:
    """The text in ASCII, all that OpenCV's fonts hold: accents are dropped, the rest is "?"."""
    stripped = "".join(
        c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
    )
    return stripped.encode("ascii", "replace").decode("ascii")
