"""Generated scenes: coloured shapes on cluttered ground, with exact boxes. No download needed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unidet.backends.random import stream
from unidet.data.images import write_image
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
        labels: ``(n,)`` int64, index into the classes asked for.
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
) -> Scene:
    """Draws scene ``index``; the same arguments give the same pixels.

    Args:
        seed: of the whole series.
        index: of the scene, from 0.
        size: ``(h, w)`` in pixels, 64 or more.
        classes: which of ``SCENE_CLASSES`` occur.
        max_objects: between 1 and so many objects are tried; those without room are left out.
    """
    _check(size, classes)
    rng = stream(seed, "scene", index)
    h, w = size[0] * _FINER, size[1] * _FINER
    canvas = ground(rng, (h, w))
    add_clutter(rng, canvas, int(rng.integers(6, 16)))
    owner = np.full((h, w), -1, np.int32)
    labels: list[int] = []
    whole: list[int] = []  # pixels of each object if nothing hid it
    for _ in range(int(rng.integers(1, max_objects + 1))):
        label = int(rng.integers(len(classes)))
        patch_mask = shape_mask(rng, classes[label], _radius(rng, min(h, w)))
        for _attempt in range(12):
            if _place(rng, canvas, owner, patch_mask, whole):
                labels.append(label)
                break
    image = _develop(rng, canvas, size)
    boxes, areas = _visible(owner, len(labels))
    return Scene(image, boxes, np.array(labels, np.int64), areas)


def _check(size: tuple[int, int], classes: Sequence[str]) -> None:
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
    patch = paint(rng, mask, below)
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
    padded = cv2.copyMakeBorder(mask.astype(np.float32), *[2 * blur] * 4, cv2.BORDER_CONSTANT)
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


def generate_scenes(
    out_dir: str | Path,
    count: int,
    *,
    size: tuple[int, int] = (240, 320),
    seed: int = 0,
    classes: Sequence[str] = SCENE_CLASSES,
    max_objects: int = 6,
    start: int = 0,
    overwrite: bool = False,
) -> Path:
    """Writes ``OUT_DIR/images/*.jpg`` and ``OUT_DIR/annotations.json`` in COCO form.

    The folder appears complete or not at all. Scenes ``start`` to ``start + count - 1`` are
    drawn, so two calls with one seed and ranges that do not meet share no picture.

    Args:
        out_dir: must not exist, or be empty.
        count: number of scenes.
        size: ``(h, w)`` in pixels.
        seed: of the series.
        classes: which of ``SCENE_CLASSES`` occur.
        max_objects: most objects in a scene.
        start: index of the first scene.
        overwrite: replace scenes generated earlier; a folder with anything else in it is refused.

    Returns:
        Path of the annotation file.

    Raises:
        UserError: the folder is in use or cannot be written, or an argument is out of range.
    """
    out_dir = Path(out_dir)
    _check(size, classes)
    for name, value, low in (("count", count, 1), ("start", start, 0), ("max_objects", max_objects, 1)):
        if value < low:
            raise UserError(
                f"Invalid value for `{name}`. Expected {low} or more. Received {value!r}."
            )
    check_free(out_dir, overwrite)
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    except OSError as error:
        raise UserError(f"Cannot write {out_dir}: {error.strerror}.") from None
    try:
        (work / "images").mkdir()
        content = _write_all(work / "images", range(start, start + count), size, seed, classes, max_objects)
        text = json.dumps(content, separators=(",", ":"))
        (work / "annotations.json").write_text(text, encoding="utf-8")
        work.chmod(0o755)
        _swap(work, out_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out_dir / "annotations.json"


def check_free(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that holds anything but generated scenes that may be replaced."""
    if folder.is_file():
        raise UserError(f"Cannot write {folder}: it is a file.")
    found = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    if found and not overwrite:
        raise UserError(f"Folder is not empty: {folder}. Choose another one or allow overwriting.")
    other = sorted(found - {"images", "annotations.json"})
    if other:
        raise UserError(
            f"Folder holds more than generated scenes: {folder} ({other[0]}). It is left as it is."
        )


def _swap(work: Path, out_dir: Path) -> None:
    if not out_dir.exists():
        os.rename(work, out_dir)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.old.", dir=out_dir.parent))
    os.rename(out_dir, old / "was")
    os.rename(work, out_dir)
    shutil.rmtree(old, ignore_errors=True)


def _write_all(
    folder: Path,
    indices: range,
    size: tuple[int, int],
    seed: int,
    classes: Sequence[str],
    max_objects: int,
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in indices:
        scene = render_scene(seed, index, size=size, classes=classes, max_objects=max_objects)
        name = f"{index:06d}.jpg"
        write_image(folder / name, scene.image, quality=92)
        images.append(
            {"id": index + 1, "file_name": name, "width": size[1], "height": size[0]}
        )
        for box, label, area in zip(scene.boxes_xywh, scene.labels, scene.areas):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": int(label) + 1,
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": f"Generated scenes, seed {seed}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in enumerate(classes, start=1)],
    }
