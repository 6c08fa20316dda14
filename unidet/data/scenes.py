"""Writes data sets of generated scenes. Nothing has to be downloaded to train on them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from unidet.data.coco import read_json
from unidet.data.images import write_image
from unidet.data.scene_colours import drawn_classes, scene_class_names
from unidet.data.scene_render import SCENE_CLASSES, Scene, check_scene, render_scene
from unidet.errors import UserError

__all__ = ["SCENE_CLASSES", "Scene", "ensure_scenes", "generate_scenes", "render_scene"]


def generate_scenes(
    out_dir: str | Path,
    count: int,
    *,
    size: tuple[int, int] = (240, 320),
    seed: int = 0,
    classes: Sequence[str] = SCENE_CLASSES,
    max_objects: int = 6,
    start: int = 0,
    colours: Sequence[str] = (),
    without: Sequence[str] = (),
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
        colours: with them a class is a colour and a shape, such as "red disc"; see
            :data:`unidet.data.scene_colours.PALETTE`.
        without: class names that do not occur in pictures; the categories list all.
        overwrite: replace scenes generated earlier; a folder with anything else in it is refused.

    Returns:
        Path of the annotation file.

    Raises:
        UserError: the folder is in use or cannot be written, or an argument is out of range.
    """
    out_dir = Path(out_dir)
    check_scene(size, classes)
    drawn_classes(classes, colours, without)
    limits = {"count": (count, 1), "start": (start, 0), "max_objects": (max_objects, 1)}
    for name, (value, low) in limits.items():
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
        options = {
            "size": size,
            "classes": classes,
            "max_objects": max_objects,
            "colours": colours,
            "without": without,
        }
        content = _write_all(work / "images", range(start, start + count), seed, options)
        text = json.dumps(content, separators=(",", ":"))
        (work / "annotations.json").write_text(text, encoding="utf-8")
        work.chmod(0o755)
        _swap(work, out_dir, overwrite)
    except OSError as error:
        raise UserError(f"Cannot write {out_dir}: {error.strerror}.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out_dir / "annotations.json"


def ensure_scenes(out_dir: str | Path, count: int, **options: Any) -> Path:
    """Like :func:`generate_scenes`, unless the folder holds just these scenes already.

    Raises:
        UserError: it holds other scenes or anything else, or cannot be written.
    """
    annotations = Path(out_dir) / "annotations.json"
    if not annotations.exists():
        try:
            return generate_scenes(out_dir, count, **options)
        except UserError:
            if not annotations.exists():  # another process may have been first
                raise
    given = {k: v.default for k, v in signature(generate_scenes).parameters.items()} | options
    wanted = _recipe(count, given)
    info = read_json(annotations).get("info")
    for key, value in {**_ABSENT, **wanted}.items():
        found = info.get(key, _ABSENT.get(key)) if isinstance(info, dict) else None
        if found != value:
            raise UserError(
                f"{annotations} holds other scenes. Expected {key} {value!r}. Received {found!r}. "
                "Choose another folder or remove it."
            )
    return annotations


#: What scenes without these entries were made with.
_ABSENT: dict[str, Any] = {"colours": [], "without": []}


def _recipe(count: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one set of scenes from another, in JSON's types."""
    recipe: dict[str, Any] = {"count": count}
    for key in ("size", "seed", "classes", "max_objects", "start"):
        value = options[key]
        recipe[key] = list(value) if key in ("size", "classes") else value
    return recipe | {key: list(options[key]) for key in _ABSENT if options[key]}


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


def _swap(work: Path, out_dir: Path, overwrite: bool) -> None:
    if not out_dir.exists() or not overwrite:
        if out_dir.exists():
            out_dir.rmdir()  # fails if something has appeared in it meanwhile
        os.rename(work, out_dir)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.old.", dir=out_dir.parent))
    os.rename(out_dir, old / "was")
    os.rename(work, out_dir)
    shutil.rmtree(old, ignore_errors=True)


def _write_all(
    folder: Path, indices: range, seed: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    height, width = options["size"]
    for index in indices:
        scene = render_scene(seed, index, **options)
        name = f"{index:06d}.jpg"
        write_image(folder / name, scene.image, quality=92)
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
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
    names = scene_class_names(options["classes"], options["colours"])
    recipe = _recipe(len(indices), {**options, "seed": seed, "start": indices.start})
    return {
        "info": {"description": "Generated scenes", **recipe},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in enumerate(names, start=1)],
    }
