"""COCO-form annotation files: COCO, LVIS (v0.5 and v1), Objects365, OpenImages."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from unidet.data.dataset import Annotations, DetectionDataset, ImageRecord
from unidet.data.file_names import find_image, image_name, twice_used
from unidet.errors import UserError

_IMAGE_KEYS = {"id", "file_name", "width", "height"}
ON_BAD = ("error", "skip")


def read_json(path: str | Path) -> dict[str, Any]:
    """The content of a COCO-form file: an object with images, annotations and categories.

    Raises:
        UserError: no such file, empty, not JSON, or one of the three lists is missing.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"Annotation file not found: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Annotation file cannot be read: {path} ({error})") from None
    if not text.strip():
        raise UserError(f"Annotation file is empty: {path}")
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"Annotation file is not JSON: {path} ({error})") from None
    if not isinstance(content, dict):
        raise UserError(
            f"Invalid annotation file {path}. Expected an object with 'images', 'annotations' and "
            f"'categories'. Received a {type(content).__name__}."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            received = type(content[key]).__name__ if key in content else "no such key"
            raise UserError(
                f"Invalid annotation file {path}. Expected a list under {key!r}. "
                f"Received {received}."
            )
    return content


def check_on_bad(on_bad: str) -> None:
    """Raises ``ValueError`` unless ``on_bad`` is "error" or "skip"."""
    if on_bad not in ON_BAD:
        raise ValueError(
            f"Invalid value for `on_bad`. Expected 'error' or 'skip'. Received {on_bad!r}."
        )


def check_distinct(class_names: Sequence[str]) -> None:
    """Raises ``UserError`` where a name occurs twice."""
    twice = [name for i, name in enumerate(class_names) if name in class_names[:i]]
    if twice:
        raise UserError(
            "Invalid value for `class_names`. Expected each name once. "
            f"Received {twice[0]!r} twice."
        )


def is_id(value: Any) -> TypeGuard[int]:
    """True for an integer that is no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def box_defect(bbox: Any) -> str | None:
    """What makes ``[x, y, width, height]`` unusable, or nothing."""
    if not isinstance(bbox, (list, tuple)) or len(bbox) != 4:
        return f"'bbox' is not [x, y, width, height]: {bbox!r}"
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in bbox):
        return f"'bbox' holds a value that is no number: {bbox!r}"
    if not all(math.isfinite(v) for v in bbox):
        return f"'bbox' holds NaN or infinity: {bbox!r}"
    if bbox[2] < 0 or bbox[3] < 0:
        return f"'bbox' has a negative size: {bbox!r}"
    return None


class _Bad:
    """Raises at the first defect, or collects them all."""

    def __init__(self, source: str, on_bad: str) -> None:
        check_on_bad(on_bad)
        self.source, self.raises, self.lines = source, on_bad == "error", []

    lines: list[str]

    def __call__(self, where: str, what: str) -> None:
        line = f"{self.source}: {where}: {what}"
        if self.raises:
            raise UserError(f"Invalid annotation file {line}")
        self.lines.append(line)


def load_coco(
    annotations: str | Path,
    images_dir: str | Path,
    *,
    name: str | None = None,
    class_names: Sequence[str] | None = None,
    on_bad: str = "error",
) -> DetectionDataset:
    """Reads a COCO-form file.

    Categories are sorted by id and numbered from 0, as text embeddings and frequencies are; names
    stay as they are, blanks at their end and repetitions (OpenImages) included. Boxes of zero area
    are kept, because evaluation counts them; training drops them.

    Args:
        annotations: the JSON file.
        images_dir: folder that ``file_name`` refers to.
        name: of the data set; the file's stem by default.
        class_names: keep only these classes, in this order.
        on_bad: "error" raises at the first bad entry, "skip" leaves bad entries out and lists
            them in ``skipped``.

    Raises:
        UserError: names the file, the entry and the key.
    """
    content = read_json(annotations)
    bad = _Bad(str(annotations), on_bad)
    categories = _categories(content["categories"], bad)
    known = {c["id"] for c in categories}
    if class_names is not None:
        categories = _chosen(categories, class_names, str(annotations))
    label_of = {c["id"]: i for i, c in enumerate(categories)}
    records = _images(content["images"], Path(images_dir), bad)
    grouped = _group(content["annotations"], records, known, bad)
    return DetectionDataset(
        name=name or Path(annotations).stem,
        images=list(records.values()),
        class_names=tuple(c["name"] for c in categories),
        category_ids=tuple(c["id"] for c in categories),
        annotations=[
            _pack([a for a in grouped[i] if a["category_id"] in label_of], label_of)
            for i in records
        ],
        skipped=bad.lines,
        categories=categories,
    )


def _categories(entries: Iterable[Any], bad: _Bad) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for i, entry in enumerate(entries):
        where = f"categories[{i}]"
        if not isinstance(entry, dict) or not is_id(entry.get("id")):
            bad(where, "no integer 'id'")
        elif not isinstance(entry.get("name"), str):
            bad(where, "no 'name'")
        elif entry["id"] in found:
            bad(where, f"'id' {entry['id']} occurs twice")
        else:
            found[entry["id"]] = entry
    return [found[i] for i in sorted(found)]


def _chosen(
    categories: list[dict[str, Any]], names: Sequence[str], source: str
) -> list[dict[str, Any]]:
    check_distinct(names)
    by_name = {c["name"]: c for c in categories}
    many = Counter(c["name"] for c in categories)
    ambiguous = [n for n in names if many[n] > 1]
    if ambiguous:
        ids = ", ".join(str(c["id"]) for c in categories if c["name"] == ambiguous[0])
        raise UserError(
            f"Invalid value for `class_names`. Expected names that {source} gives to one category. "
            f"Received {ambiguous[0]!r}, the name of categories {ids}."
        )
    missing = [n for n in names if n not in by_name]
    if missing:
        raise UserError(
            f"Invalid value for `class_names`. Expected categories of {source}. "
            f"Received {', '.join(map(repr, missing))}."
        )
    return [by_name[n] for n in names]


def _images(entries: Iterable[Any], folder: Path, bad: _Bad) -> dict[int, ImageRecord]:
    records: dict[int, ImageRecord] = {}
    used: dict[Path, str] = {}
    for i, entry in enumerate(entries):
        where = f"images[{i}]"
        if not isinstance(entry, dict) or not is_id(entry.get("id")):
            bad(where, "no integer 'id'")
            continue
        file_name = image_name(entry)
        sizes = [entry.get("width") or 0, entry.get("height") or 0]
        if file_name is None:
            bad(where, "no 'file_name'")
        elif entry["id"] in records:
            bad(where, f"'id' {entry['id']} occurs twice")
        elif not all(isinstance(s, (int, float)) and math.isfinite(s) and s >= 0 for s in sizes):
            bad(where, f"'width' and 'height' are no sizes: {sizes!r}")
        elif shared := twice_used(path := find_image(folder, file_name), file_name, used):
            bad(where, shared)
        else:
            records[entry["id"]] = ImageRecord(
                id=entry["id"],
                path=path,
                file_name=file_name,
                width=int(sizes[0]),
                height=int(sizes[1]),
                extra={k: v for k, v in entry.items() if k not in _IMAGE_KEYS},
            )
    return records


def _group(
    entries: Iterable[Any], records: Mapping[int, ImageRecord], known: set[int], bad: _Bad
) -> dict[int, list[dict[str, Any]]]:
    grouped: dict[int, list[dict[str, Any]]] = {i: [] for i in records}
    seen: set[int] = set()
    for i, entry in enumerate(entries):
        defect = _annotation_defect(entry, grouped, known, seen)
        if defect:
            bad(f"annotations[{i}]", defect)
            continue
        if entry.get("id") is not None:
            seen.add(entry["id"])
        grouped[entry["image_id"]].append(entry)
    return grouped


def _annotation_defect(
    entry: Any, images: Mapping[int, Any], known: set[int], seen: set[int]
) -> str | None:
    if not isinstance(entry, dict):
        return "no object"
    number = entry.get("id")
    if number is not None and not is_id(number):
        return f"'id' is no integer: {number!r}"
    if number is not None and number in seen:
        return f"'id' {number} occurs twice"
    image, category = entry.get("image_id"), entry.get("category_id")
    if not is_id(image) or image not in images:
        return f"'image_id' {image!r} is not among the images"
    if not is_id(category) or category not in known:
        return f"'category_id' {category!r} is not among the categories"
    area = entry.get("area")
    if area is not None and (not isinstance(area, (int, float)) or not math.isfinite(area)):
        return f"'area' is no finite number: {area!r}"
    return box_defect(entry.get("bbox"))


def _pack(entries: list[dict[str, Any]], label_of: Mapping[int, int]) -> Annotations:
    return Annotations.build(
        [a["bbox"] for a in entries],
        [label_of[a["category_id"]] for a in entries],
        crowd=[bool(a.get("iscrowd", 0)) for a in entries],
        ignore=[bool(a.get("ignore", 0)) for a in entries],
        areas=[a.get("area") for a in entries],
        ids=[a.get("id") or 0 for a in entries],
    )
