"""Ground truth and predictions next to each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from unidet.data.images import read_image
from unidet.structures import Detections, Targets
from unidet.visualization.draw import draw_detections, draw_targets, plain, text_scale

_MIN_SIDE = 480
_BACKGROUND = (245, 245, 245)
_INK = (30, 30, 30)


def side_by_side(
    image: np.ndarray | str | Path,
    targets: Targets,
    detections: Detections,
    *,
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.3,
    title: str | None = None,
) -> np.ndarray:
    """A picture with the ground truth on the left and the predictions on the right.

    Small images are enlarged so that the labels can be read.

    Args:
        image: ``(h, w, 3)`` uint8 RGB, or a file.
        targets: ground truth in pixels of that image.
        detections: predictions in pixels of that image.
        class_names: names of all classes; those of the detections by default.
        score_threshold: predictions of lower score are left out.
        title: a line above, such as the name of the file.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    pixels = read_image(image)
    names = class_names if class_names is not None else detections.class_names
    factor = max(1.0, _MIN_SIDE / min(pixels.shape[:2]))
    # Very long thin images would grow out of hand.
    factor = min(factor, max(1.0, 1600 / max(pixels.shape[:2])))
    if factor > 1:
        size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    shown = detections.above(score_threshold)
    grown = np.float32(factor)
    truth = Targets(targets.boxes_xyxy * grown, targets.labels, targets.crowd, targets.ignore)
    found = Detections(
        shown.boxes_xyxy * grown,
        shown.scores,
        shown.labels,
        None if names is None else tuple(names),
    )
    left = draw_targets(pixels, truth, names)
    right = draw_detections(pixels, found)
    scale = text_scale(pixels) * 1.15
    gap = np.full((pixels.shape[0], max(6, pixels.shape[1] // 80), 3), _BACKGROUND, np.uint8)
    body = np.concatenate([left, gap, right], axis=1)
    captions = (
        f"ground truth: {_count(len(truth))}",
        f"predictions: {_count(len(found))} (score >= {score_threshold:g})",
    )
    start = pixels.shape[1] + gap.shape[1]
    rows = [_caption(body.shape[1], scale, [(0, captions[0]), (start, captions[1])])]
    if title:
        rows.insert(0, _caption(body.shape[1], scale, [(0, title)]))
    return np.concatenate([*rows, body], axis=0)


def _count(number: int) -> str:
    return f"{number} object" + ("" if number == 1 else "s")


def _caption(width: int, scale: float, texts: Sequence[tuple[int, str]]) -> np.ndarray:
    """A strip with texts, shrunk where one is longer than its room."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    thickness = max(1, round(scale * 1.8))
    margin = round(14 * scale) + 2
    strip = np.full((round(44 * scale) + 4, width, 3), _BACKGROUND, np.uint8)
    ends = [start for start, _ in texts[1:]] + [width]
    for (start, text), end in zip(texts, ends):
        text = plain(text)
        wide = cv2.getTextSize(text, font, scale, thickness)[0][0]
        fitted = scale * min(1.0, (end - start - 2 * margin) / max(wide, 1))
        origin = (start + margin, round(strip.shape[0] * 0.68))
        cv2.putText(strip, text, origin, font, fitted, _INK, thickness, cv2.LINE_AA)
    return strip
