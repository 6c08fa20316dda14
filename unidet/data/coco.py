"""COCO-form annotation files: COCO, LVIS (v0.5 and v1), Objects365, OpenImages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unidet.data.dataset import Annotations, DetectionDataset, ImageRecord
from unidet.data.entry_rules import examine
from unidet.data.file_names import find_image, image_name
from unidet.errors import UserError
from unidet.files import reading
from unidet.files.shown import shown

_IMAGE_KEYS = {"id", "file_name", "width", "height"}
ON_BAD = ("error", "skip")


def read_json(path: str | Path) -> dict[str, Any]:
    """The content of a COCO-form file: an object with images, annotations and categories.

    Raises:
        UserError: no such file, empty, not JSON, or one of the three lists is missing.
    """
    return check_lists(reading.read_json(path, "Annotation file"), path)


def check_lists(content: Any, source: str | Path) -> dict[str, Any]:
    """``content``, which must be an object with the three lists of COCO form.

    Raises:
        UserError: it is another value, or a list is missing; names ``source``.
    """
    if not isinstance(content, dict):
        raise UserError(
            f"Invalid annotation file {source}. Expected an object with 'images', 'annotations' "
            f"and 'categories'. Received a {type(content).__name__}."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            received = type(content[key]).__name__ if key in content else "no such key"
            raise UserError(
                f"Invalid annotation file {source}. Expected a list under {key!r}. "
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
    twice = next((name for name, count in Counter(class_names).items() if count > 1), None)
    if twice is not None:
        raise UserError(
            f"Invalid value for `class_names`. Expected each name once. Received {shown(twice)} "
            "twice."
        )


class _Bad:
    """Raises at the first defect, or collects them all."""

    def __init__(self, source: str, on_bad: str) -> None:
        check_on_bad(on_bad)
        self.source, self.raises, self.lines = source, on_bad == "error", []

    lines: list[str]
    last = ""

    def __call__(self, kind: str, where: str, what: str) -> None:
        line = f"{self.source}: {where}: {what}"
        if self.raises:
            raise UserError(f"Invalid annotation file {line}")
        # One line for each entry that is left out.
        if where != self.last:
            self.lines.append(line)
        self.last = where


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
    folder = Path(images_dir)
    entries = examine(content, bad, lambda file_name: find_image(folder, file_name))
    categories = [entries.categories[i] for i in sorted(entries.categories)]
    if class_names is not None:
        categories = _chosen(categories, class_names, str(annotations))
    label_of = {c["id"]: i for i, c in enumerate(categories)}
    grouped: dict[int, list[dict[str, Any]]] = {i: [] for i in entries.images}
    for _, entry in entries.annotations:
        if entry["category_id"] in label_of:
            grouped[entry["image_id"]].append(entry)
    return DetectionDataset(
        name=name or Path(annotations).stem,
        images=[_record(e, entries.paths[i]) for i, e in entries.images.items()],
        class_names=tuple(c["name"] for c in categories),
        category_ids=tuple(c["id"] for c in categories),
        annotations=[_pack(found, label_of) for found in grouped.values()],
        skipped=bad.lines,
        categories=categories,
    )


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
            f"Received {shown(ambiguous[0])}, the name of categories {ids}."
        )
    missing = [n for n in names if n not in by_name]
    if missing:
        raise UserError(
            f"Invalid value for `class_names`. Expected categories of {source}. "
            f"Received {', '.join(map(shown, missing[:5]))}."
        )
    return [by_name[n] for n in names]


def _record(entry: Mapping[str, Any], path: Path) -> ImageRecord:
    return ImageRecord(
        id=entry["id"],
        path=path,
        file_name=image_name(entry) or "",
        width=int(entry.get("width") or 0),
        height=int(entry.get("height") or 0),
        extra={k: v for k, v in entry.items() if k not in _IMAGE_KEYS},
    )


def _pack(entries: list[dict[str, Any]], label_of: Mapping[int, int]) -> Annotations:
    return Annotations.build(
        [a["bbox"] for a in entries],
        [label_of[a["category_id"]] for a in entries],
        crowd=[bool(a.get("iscrowd")) for a in entries],
        ignore=[bool(a.get("ignore")) for a in entries],
        areas=[a.get("area") for a in entries],
        ids=[a.get("id") or 0 for a in entries],
    )
