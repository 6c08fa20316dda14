"""Which entries of a COCO-form file can be used: the rules of reading, checking and scoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unidet.data.file_names import image_name, twice_used
from unidet.files.numbers import is_flag, is_id, is_number, is_size, is_text
from unidet.files.shown import shown

#: Longest coordinate and side of a box, in pixels; float32 holds it to a pixel's 128th.
LONGEST_SIDE = 2.0**31
#: Called with the kind of a defect, the entry, and what is wrong with it.
Report = Callable[[str, str, str], None]


@dataclass
class Entries:
    """The usable entries of a file.

    Attributes:
        categories: by id, in the order of the file.
        images: by id, in the order of the file.
        paths: file of each image, by id; empty where files do not count.
        annotations: usable ones, each with its place in the file's list.
    """

    categories: dict[int, dict[str, Any]] = field(default_factory=dict)
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    paths: dict[int, Path] = field(default_factory=dict)
    annotations: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


def examine(
    content: Mapping[str, Any], report: Report, locate: Callable[[str], Path] | None
) -> Entries:
    """Sorts the entries of a file into usable ones and defects.

    Args:
        content: with lists under ``images``, ``annotations`` and ``categories``.
        report: told of each defect. It may raise, which ends the search.
        locate: path of a file name; None where the files do not count, as in scoring.
    """
    found = Entries()
    for i, entry in enumerate(content["categories"]):
        _take(found.categories, entry, f"categories[{i}]", category_defect(entry), report)
    files: dict[Path, str] = {}
    for i, entry in enumerate(content["images"]):
        where = f"images[{i}]"
        defect = image_defect(entry, named=locate is not None)
        if defect is None and locate is not None:
            name = image_name(entry) or ""
            path = locate(name)
            # An id that occurs twice is told first, and is no second use of the file.
            shared = None if entry["id"] in found.images else twice_used(path, name, files)
            if shared:
                report("two images in one file", where, shared)
                continue
            found.paths.setdefault(entry["id"], path)
        _take(found.images, entry, where, defect, report)
    seen: set[int] = set()
    for i, entry in enumerate(content["annotations"]):
        where = f"annotations[{i}]"
        defects = annotation_defects(entry, found.images, found.categories)
        number = entry.get("id") if isinstance(entry, dict) else None
        if is_id(number) and number in seen:
            defects.insert(0, ("duplicate id in annotations", f"'id' {number} occurs twice"))
        for kind, what in defects:
            report(kind, where, what)
        if not defects:
            found.annotations.append((i, entry))
            if number is not None:
                seen.add(number)
    return found


def _take(
    found: dict[int, dict[str, Any]],
    entry: Any,
    where: str,
    defect: tuple[str, str] | None,
    report: Report,
) -> None:
    if defect is None and entry["id"] in found:
        kind = f"duplicate id in {where.partition('[')[0]}"
        defect = kind, f"'id' {entry['id']} occurs twice"
    if defect is not None:
        report(defect[0], where, defect[1])
    else:
        found[entry["id"]] = entry


def category_defect(entry: Any) -> tuple[str, str] | None:
    """Kind and description of what makes a category unusable, or nothing."""
    if not isinstance(entry, dict) or not is_id(entry.get("id")):
        return _no_id(entry)
    if not is_text(entry.get("name")):
        return "no name", f"no 'name' that is a text: {shown(entry.get('name'))}"
    return None


def image_defect(entry: Any, *, named: bool = True) -> tuple[str, str] | None:
    """Kind and description of what makes an image unusable, or nothing.

    Args:
        entry: of the file.
        named: whether it must have a file name.
    """
    if not isinstance(entry, dict) or not is_id(entry.get("id")):
        return _no_id(entry)
    name = image_name(entry)
    if named and (name is None or not is_text(name)):
        return "image without a file name", f"no 'file_name' that is a text: {shown(name)}"
    sizes = [entry.get("width"), entry.get("height")]
    if not all(size is None or is_size(size) for size in sizes):
        return (
            "image without a size",
            f"'width' and 'height' are no whole numbers of pixels: {shown(sizes)}",
        )
    return None


def annotation_defects(
    entry: Any, images: Mapping[int, Any], categories: Mapping[int, Any]
) -> list[tuple[str, str]]:
    """Kind and description of everything that makes an annotation unusable."""
    if not isinstance(entry, dict):
        return [("no object", f"no object: {shown(entry)}")]
    found = []
    number, image, category = entry.get("id"), entry.get("image_id"), entry.get("category_id")
    if number is not None and not is_id(number):
        found.append(("no integer id", f"'id' is no integer of 64 bits: {shown(number)}"))
    if not is_id(image) or image not in images:
        what = f"'image_id' {shown(image)} is not among the images"
        found.append(("annotation of an unknown image", what))
    if not is_id(category) or category not in categories:
        what = f"'category_id' {shown(category)} is not among the categories"
        found.append(("unknown category id", what))
    area = entry.get("area")
    if area is not None and (not is_number(area) or area < 0):
        found.append(("malformed area", f"'area' is no number of 0 or more: {shown(area)}"))
    for key in ("iscrowd", "ignore"):
        flag = entry.get(key)
        if flag is not None and not is_flag(flag):
            found.append((f"malformed {key}", f"{key!r} is neither 0 nor 1: {shown(flag)}"))
    box = box_defect(entry.get("bbox"))
    return [*found, box] if box else found


def box_defect(bbox: Any) -> tuple[str, str] | None:
    """Kind and description of what makes ``[x, y, width, height]`` unusable, or nothing."""
    if not isinstance(bbox, (list, tuple)) or len(bbox) != 4:
        return "malformed box", f"'bbox' is not [x, y, width, height]: {shown(bbox)}"
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in bbox):
        return "malformed box", f"'bbox' holds a value that is no number: {shown(bbox)}"
    if not all(map(is_number, bbox)):
        return "NaN or infinity in a box", f"'bbox' holds NaN or infinity: {shown(bbox)}"
    if bbox[2] < 0 or bbox[3] < 0:
        return "negative size", f"'bbox' has a negative size: {shown(bbox)}"
    if any(abs(v) > LONGEST_SIDE for v in bbox):
        return "malformed box", f"'bbox' is larger than any image: {shown(bbox)}"
    return None


def _no_id(entry: Any) -> tuple[str, str]:
    number = entry.get("id") if isinstance(entry, dict) else entry
    return "no integer id", f"no integer 'id' of 64 bits: {shown(number)}"
