"""Results in COCO form: writing, reading and checking before they are handed in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unidet.errors import UserError
from unidet.files.atomic import atomic_path
from unidet.files.numbers import is_number
from unidet.files.outputs import make_parent
from unidet.files.reading import read_json
from unidet.files.shown import shown

#: COCO counts at most this many detections in an image.
MAX_PER_IMAGE = 100
_KEYS = ("image_id", "category_id", "bbox", "score")
_SHOWN = 3


@dataclass
class ResultsReport:
    """What a check of results found.

    Attributes:
        count: number of entries.
        images: number of images with at least one entry.
        problems: kind of problem to one sentence for each occurrence.
    """

    count: int = 0
    images: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.problems

    def add(self, kind: str, message: str) -> None:
        """Notes one occurrence of a kind of problem."""
        self.problems.setdefault(kind, []).append(message)

    def text(self) -> str:
        """A summary for people: each kind with its number and its first examples."""
        lines = [f"{self.count} results in {self.images} images"]
        for kind, messages in self.problems.items():
            lines.append(f"{kind}: {len(messages)}")
            lines += [f"  {message}" for message in messages[:_SHOWN]]
            if len(messages) > _SHOWN:
                lines.append(f"  and {len(messages) - _SHOWN} more")
        lines.append("OK" if self.ok else "NOT VALID")
        return "\n".join(lines)


def write_results(path: str | Path, results: Sequence[Mapping[str, Any]]) -> Path:
    """Writes results as JSON, whole or not at all. An empty list is a valid file.

    Raises:
        UserError: the folder cannot be written, or a number is NaN or infinite.
    """
    target = Path(path)
    try:
        text = json.dumps([dict(r) for r in results], allow_nan=False)
    except ValueError as error:
        raise UserError(
            "Invalid value for `results`. Expected finite numbers. Received NaN or infinity."
        ) from error
    write_text(target, text + "\n")
    return target


def write_text(target: Path, text: str) -> None:
    """Replaces a file at once: a reader sees the old text or the new, never a part.

    Raises:
        UserError: the folder cannot be made.
        RunFailedError: the disk refused the write.
    """
    make_parent(target)
    with atomic_path(target, overwrite=True) as temporary:
        temporary.write_text(text)


def read_results(path: str | Path) -> Any:
    """Reads a results file. What it holds is not judged here: see :func:`check_results`.

    Raises:
        UserError: the file cannot be read or is not JSON.
    """
    return read_json(path, "Results file")


def check_results(
    results: Any,
    ground_truth: Mapping[str, Any],
    *,
    max_per_image: int = MAX_PER_IMAGE,
) -> ResultsReport:
    """Looks for everything that would make an evaluation server refuse results or miscount them.

    Args:
        results: what a results file holds; expected is a list of ``{"image_id", "category_id",
            "bbox": [x, y, w, h], "score"}`` in pixels of the original images.
        ground_truth: ``images`` and ``categories`` in COCO form; annotations are not needed.
        max_per_image: more than these are not counted by COCO's metrics.

    Returns:
        A report; an empty list is valid.
    """
    report = ResultsReport()
    if not isinstance(results, list):
        report.add("not a list", f"Expected a list. Received a {type(results).__name__}.")
        return report
    report.count = len(results)
    sizes = {i["id"]: (i.get("width"), i.get("height")) for i in ground_truth["images"]}
    categories = {c["id"] for c in ground_truth["categories"]}
    per_image: Counter[Any] = Counter()
    seen: set[str] = set()
    for index, entry in enumerate(results):
        where = f"entry {index}"
        if not isinstance(entry, dict):
            report.add("not an object", f"{where}: {type(entry).__name__}")
            continue
        missing = [key for key in _KEYS if key not in entry]
        if missing:
            report.add("missing keys", f"{where}: no {', '.join(missing)}")
            continue
        _check_ids(report, where, entry, sizes, categories)
        _check_score(report, where, entry["score"])
        _check_box(report, where, entry, sizes)
        per_image[shown(entry["image_id"])] += 1
        same = repr([shown(entry[key], 400) for key in _KEYS])
        if same in seen:
            report.add("repeated entries", where)
        seen.add(same)
    report.images = len(per_image)
    for image, count in per_image.items():
        if count > max_per_image:
            report.add(f"more than {max_per_image} in an image", f"image {image}: {count}")
    return report


def _check_ids(
    report: ResultsReport,
    where: str,
    entry: Mapping[str, Any],
    sizes: Mapping[Any, Any],
    categories: set[Any],
) -> None:
    for key, known, kind in (
        ("image_id", sizes, "unknown image ids"),
        ("category_id", categories, "unknown category ids"),
    ):
        value = entry[key]
        # A bool or 1.0 equals the id 1 in Python and is still no id.
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            report.add(f"{key} not an integer", f"{where}: {shown(value)}")
        elif value not in known:
            report.add(kind, f"{where}: {shown(value)}")


def _check_score(report: ResultsReport, where: str, score: Any) -> None:
    if not _is_numeric(score):
        report.add("score not a number", f"{where}: {shown(score)}")
    elif not is_number(score):
        report.add("NaN or infinite", f"{where}: score {shown(score)}")
    elif not 0 <= score <= 1:
        report.add("scores outside [0, 1]", f"{where}: {score}")


def _check_box(
    report: ResultsReport, where: str, entry: Mapping[str, Any], sizes: Mapping[Any, Any]
) -> None:
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_numeric, box)):
        report.add("bbox not four numbers", f"{where}: {shown(box)}")
        return
    if not all(map(is_number, box)):
        report.add("NaN or infinite", f"{where}: bbox {shown(box)}")
        return
    x, y, w, h = box
    if w < 0 or h < 0:
        report.add("negative sizes", f"{where}: width {w}, height {h}")
        return
    image = entry["image_id"]
    width, height = sizes.get(image, (None, None)) if isinstance(image, (int, str)) else (0, 0)
    if width and height and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
        report.add("boxes outside the image", f"{where}: {box} in {width} x {height}")


def _is_numeric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
