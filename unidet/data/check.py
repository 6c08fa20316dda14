"""Finds all defects of an annotated data set, in one pass, without stopping at the first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.data.coco import read_json
from unidet.data.entry_rules import examine
from unidet.data.file_names import find_image, image_name, relative_name
from unidet.data.images import read_image
from unidet.data.voc import read_voc_file, voc_image_path, voc_images_dir, voc_split
from unidet.errors import UserError
from unidet.files.reading import is_file
from unidet.files.shown import cut, printable, shown

#: Kinds that do not make a data set defective by themselves.
NOTES = ("image without boxes", "near-duplicate boxes", "class without boxes", "crowd boxes")
#: Boxes of one class that overlap more than this are near-duplicates.
NEAR_DUPLICATE_IOU = 0.9
#: Pairs of near-duplicates that are listed for one class in one image.
MOST_PAIRS = 1000
#: Comparisons of boxes of one class in one image, some seconds of work.
MOST_COMPARISONS = 50_000_000


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: short name, such as "zero area".
        where: the entry or file.
        detail: values that explain it.
    """

    kind: str
    where: str
    detail: str = ""

    @property
    def is_note(self) -> bool:
        """True for what may be intended."""
        return self.kind in NOTES


@dataclass
class Report:
    """What :func:`check_dataset` found in one annotation file."""

    source: str
    images: int = 0
    boxes: int = 0
    classes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, where: str, detail: str = "") -> None:
        """Records one finding."""
        self.findings.append(Finding(kind, where, detail))

    @property
    def defects(self) -> list[Finding]:
        """Findings that are no mere notes."""
        return [f for f in self.findings if not f.is_note]

    def counts(self) -> dict[str, int]:
        """How often each kind was found."""
        return dict(Counter(f.kind for f in self.findings))

    def summary(self, limit: int = 5) -> str:
        """Text with at most ``limit`` entries of each kind; 0 lists all."""
        lines = [
            f"{self.source}: {self.images:,} images, {self.boxes:,} boxes, {self.classes:,} classes"
        ]
        by_kind: dict[str, list[Finding]] = defaultdict(list)
        for finding in sorted(self.findings, key=lambda f: f.is_note):
            by_kind[finding.kind].append(finding)
        for kind, found in by_kind.items():
            lines.append(f"  {'note' if found[0].is_note else 'DEFECT'}: {kind}: {len(found):,}")
            listed = found[:limit] if limit else found
            lines.extend(f"    {f.where}{': ' if f.detail else ''}{f.detail}" for f in listed)
            if len(found) > len(listed):
                lines.append(f"    and {len(found) - len(listed):,} more")
        if not self.defects:
            lines.append("  no defects")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All findings, in JSON's types."""
        return {
            "source": self.source,
            "images": self.images,
            "boxes": self.boxes,
            "classes": self.classes,
            "counts": self.counts(),
            "findings": [
                {"kind": f.kind, "where": f.where, "detail": f.detail, "note": f.is_note}
                for f in self.findings
            ],
        }


def check_dataset(
    annotations: str | Path, images_dir: str | Path | None = None, *, decode: bool = True
) -> Report:
    """Checks a COCO-form file and, where ``images_dir`` is given, its images.

    Found are: entries without the keys they need; ids that occur twice; boxes with NaN, negative
    size, no area, or a part outside the image; annotations of unknown images or categories;
    image files that are missing, truncated, no image, or of another size. Noted are images and
    classes without boxes, near-duplicate boxes, and crowd regions.

    Args:
        annotations: the JSON file.
        images_dir: folder of the images; none checks the annotations alone.
        decode: False only looks whether the image files exist.

    Raises:
        UserError: the file cannot be read as JSON with the three lists.
    """
    report = Report(str(annotations))
    folder = None if images_dir is None else Path(images_dir)
    return _check_content(report, read_json(annotations), folder, decode)


def check_voc(
    root: str | Path, split: str, images_dir: str | Path | None = None, *, decode: bool = True
) -> Report:
    """The same for one split of a VOC folder.

    Args:
        root: folder with ``Annotations`` and ``ImageSets/Main``.
        split: name of a list in ``ImageSets/Main``.
        images_dir: ``JPEGImages`` or ``images`` by default.
        decode: False only looks whether the image files exist.

    Raises:
        UserError: the list or the folder of images cannot be read.
    """
    report = Report(f"{root} ({split})")
    content, folder = _voc_content(report, Path(root), split, images_dir)
    return _check_content(report, content, folder, decode)


def _voc_content(
    report: Report, root: Path, split: str, images_dir: str | Path | None
) -> tuple[dict[str, Any], Path]:
    """A VOC split in COCO form, with its defective boxes."""
    folder = Path(images_dir) if images_dir is not None else voc_images_dir(root)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    ids: dict[str, int] = {}
    for number, stem in enumerate(voc_split(root, split), start=1):
        try:
            content = read_voc_file(root / "Annotations" / f"{stem}.xml")
        except UserError as error:
            report.add("unreadable annotation file", str(error))
            continue
        for problem in content.problems:
            report.add("malformed object", problem)
        name = relative_name(voc_image_path(folder, stem, content.file_name), folder)
        size = {"width": content.width, "height": content.height}
        images.append({"id": number, "file_name": name, **size})
        for item in content.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids.setdefault(item.name, len(ids) + 1),
                    "bbox": list(item.xywh),
                }
            )
    categories = [{"id": i, "name": n} for n, i in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}, folder


def _check_content(
    report: Report, content: dict[str, Any], folder: Path | None, decode: bool
) -> Report:
    report.images, report.boxes = len(content["images"]), len(content["annotations"])
    report.classes = len(content["categories"])
    # Without a folder the names themselves stand for the files.
    entries = examine(
        content, report.add, lambda n: Path(n) if folder is None else find_image(folder, n)
    )
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for i, entry in entries.annotations:
        where = f"annotations[{i}]"
        if entry.get("iscrowd"):
            report.add("crowd boxes", where)
        by_image[entry["image_id"]].append({**entry, "where": where})
    used = {entry["category_id"] for _, entry in entries.annotations}
    for number, category in entries.categories.items():
        if number not in used:
            report.add("class without boxes", printable(cut(category["name"], 80)))
    for number, image in entries.images.items():
        path = None if folder is None else entries.paths[number]
        _check_image(report, image, by_image.get(number, []), path, decode)
    return report


def _check_image(
    report: Report,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    path: Path | None,
    decode: bool,
) -> None:
    where = printable(cut(image_name(image) or f"image {image['id']}", 200))
    size = (image.get("width"), image.get("height"))
    if not all(size):
        report.add("image without a size", where, f"width and height {shown(size)}")
        size = (None, None)
    if path is not None:
        true_size = _check_file(report, path, decode)
        if true_size and size[0] is not None and true_size != size:
            report.add(
                "size disagrees with the file",
                where,
                f"{size[0]}x{size[1]} said, {true_size[0]}x{true_size[1]} found",
            )
    if not annotations:
        report.add("image without boxes", where)
        return
    _check_boxes(report, where, annotations, size)


def _check_file(report: Report, path: Path, decode: bool) -> tuple[int, int] | None:
    """Width and height of a file, if it was decoded."""
    if not is_file(path):
        report.add("missing image file", str(path))
        return None
    if not decode:
        return None
    try:
        pixels = read_image(path)
    except UserError as error:
        kind = "truncated image file" if "truncated" in str(error) else "undecodable image file"
        report.add(kind, str(path))
        return None
    return pixels.shape[1], pixels.shape[0]


def _check_boxes(
    report: Report, where: str, annotations: Iterable[dict[str, Any]], size: tuple[Any, Any]
) -> None:
    by_class: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in annotations:
        x, y, w, h = entry["bbox"]
        at = f"{where}: {entry['where']}"
        if w == 0 or h == 0:
            report.add("zero area", at, f"bbox {entry['bbox']}")
            continue
        # Half a pixel is rounding of the tool that drew the box.
        if x < -0.5 or y < -0.5 or (size[0] and (x + w > size[0] + 0.5 or y + h > size[1] + 0.5)):
            report.add("outside the image", at, f"bbox {entry['bbox']}, image {size[0]}x{size[1]}")
        by_class[entry["category_id"]].append(entry)
    for entries in by_class.values():
        for first, second, overlap in _near_duplicates(entries):
            at = f"{where}: {first['where']} and {second['where']}"
            report.add("near-duplicate boxes", at, f"IoU {overlap:.2f}")


def _near_duplicates(
    entries: list[dict[str, Any]],
) -> list[tuple[dict[str, Any], dict[str, Any], float]]:
    """Pairs of boxes that overlap more than :data:`NEAR_DUPLICATE_IOU`, the first of them.

    Boxes are sorted along one axis. Two boxes of such an overlap differ in their starts by less
    than a tenth of the first one's side, so each is compared with its neighbours alone. Limits on
    pairs and comparisons keep time and memory small for any number of boxes.
    """
    boxes = np.array([e["bbox"] for e in entries], np.float64)
    _, order, ends = min((_neighbours(boxes, axis) for axis in (0, 1)), key=_comparisons)
    boxes = boxes[order]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    areas = boxes[:, 2:].prod(axis=1)
    found: list[tuple[int, int, float]] = []
    left = MOST_COMPARISONS
    for i in np.flatnonzero(ends > np.arange(1, len(boxes) + 1)):
        part = slice(i + 1, ends[i])
        sides = np.minimum(high[i], high[part]) - np.maximum(low[i], low[part])
        shared = sides.clip(0, None).prod(axis=1)
        overlap = shared / (areas[i] + areas[part] - shared)
        for at in np.flatnonzero(overlap > NEAR_DUPLICATE_IOU):
            first, second = sorted((int(order[i]), int(order[i + 1 + at])))
            found.append((first, second, float(overlap[at])))
        left -= len(overlap)
        if len(found) >= MOST_PAIRS or left <= 0:
            break
    return [(entries[i], entries[j], overlap) for i, j, overlap in sorted(found)[:MOST_PAIRS]]


def _neighbours(boxes: np.ndarray, axis: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Order along an axis, and for each place where its neighbours end."""
    order = np.argsort(boxes[:, axis], kind="stable")
    start, side = boxes[order, axis], boxes[order, 2 + axis]
    # An overlap above IoU leaves less than (1 - IoU) of the side uncovered.
    ends = np.searchsorted(start, start + (1 - NEAR_DUPLICATE_IOU) * side, side="right")
    return axis, order, ends


def _comparisons(neighbours: tuple[int, np.ndarray, np.ndarray]) -> int:
    ends = neighbours[2]
    return int((ends - np.arange(1, len(ends) + 1)).clip(0).sum())
