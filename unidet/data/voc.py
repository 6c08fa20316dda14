"""Pascal VOC folders: ``Annotations/*.xml``, ``ImageSets/Main/SPLIT.txt``, a folder of images."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unidet.data.coco import check_distinct, check_on_bad
from unidet.data.dataset import Annotations, DetectionDataset, ImageRecord
from unidet.data.file_names import find_file, relative_name, twice_used
from unidet.errors import UserError, suggestion
from unidet.files.reading import decode, is_file, read_bytes, read_text
from unidet.files.shown import shown

_ASCII_SUPERSETS = re.compile(
    rb"utf-?8|(us-)?ascii|latin-?1|iso-8859-\d+|windows-125\d|cp125\d", re.IGNORECASE
)
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_LOWER = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SUFFIXES = (*_LOWER, *(suffix.upper() for suffix in _LOWER))
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "": False}
#: Second column of the lists of one class: holds it, holds it not, or only difficult ones.
_COLUMN = re.compile(r"(.*\S)\s+(-1|0|1)", re.DOTALL)


@dataclass
class VocObject:
    """One object of a VOC file.

    Attributes:
        name: class.
        corners: ``xmin, ymin, xmax, ymax`` as written: from 1, last pixel included.
        difficult: not counted by evaluation.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool

    @property
    def xywh(self) -> tuple[float, float, float, float]:
        """Left, top, width and height, counted from 0; width 0 where both corners coincide."""
        x1, y1, x2, y2 = self.corners
        return x1 - 1, y1 - 1, x2 - x1 + (x2 > x1), y2 - y1 + (y2 > y1)


@dataclass
class VocFile:
    """Content of one VOC file; sizes are 0 where it does not say."""

    file_name: str
    width: int
    height: int
    objects: list[VocObject]
    problems: list[str]


def parse_xml(path: Path) -> ET.Element:
    """Root element of a file that declares no entities.

    Raises:
        UserError: missing, unreadable, no XML, or with a document type: entities could be used
            to exhaust memory or read other files.
    """
    data = read_bytes(path, "Annotation file")
    if data.startswith(_WIDE_MARKS):
        text = decode(data, path, "Annotation file")
        data = _DECLARATION.sub("", text, count=1).encode("utf-8", "replace")
    # Other encodings than ASCII supersets could hide the declaration from this search.
    declared = re.match(rb"[^<]*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)", data)
    plain = declared is None or _ASCII_SUPERSETS.fullmatch(declared[1])
    if b"\0" in data or not plain:
        raise UserError(f"Invalid annotation file {path}. Expected text in UTF-8 or Latin-1.")
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", data, re.IGNORECASE):
        raise UserError(f"Invalid annotation file {path}. Expected no DOCTYPE or ENTITY.")
    try:
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError, RecursionError, MemoryError) as error:
        raise UserError(f"Annotation file is not XML: {path} ({error})") from None


def read_voc_file(path: Path) -> VocFile:
    """Reads one file; unusable objects are listed in ``problems``.

    Raises:
        UserError: as :func:`parse_xml`.
    """
    root = parse_xml(path)
    objects, problems = [], []
    for i, element in enumerate(root.iter("object")):
        where = f"{path}: object[{i}]"
        name = (element.findtext("name") or "").strip()
        corners = _corners(element.find("bndbox"))
        difficult = _FLAGS.get((element.findtext("difficult") or "0").strip().lower())
        if not name:
            problems.append(f"{where}: no <name>")
        elif corners is None:
            problems.append(f"{where}: no <bndbox> of four finite numbers")
        elif corners[2] < corners[0] or corners[3] < corners[1]:
            problems.append(f"{where}: negative size {corners}")
        elif difficult is None:
            value = shown(element.findtext("difficult"))
            problems.append(f"{where}: <difficult> is neither 0 nor 1: {value}")
        else:
            objects.append(VocObject(name, corners, difficult))
    size = root.find("size")
    sides = [0.0, 0.0]
    for i, key in enumerate(("width", "height") if size is not None else ()):
        text = (size.findtext(key) if size is not None else None) or ""
        side = _number(text)
        if side is not None and side >= 0:
            sides[i] = side
        elif text.strip():
            problems.append(f"{path}: <{key}> is no size: {shown(text)}")
    file_name = (root.findtext("filename") or "").strip()
    return VocFile(file_name, int(sides[0]), int(sides[1]), objects, problems)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None  # false for NaN too


def _corners(box: ET.Element | None) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    a, b, c, d = (_number(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
    if a is None or b is None or c is None or d is None:
        return None
    return a, b, c, d


def load_voc(
    root: str | Path,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    images_dir: str | Path | None = None,
    on_bad: str = "error",
) -> DetectionDataset:
    """Reads one split of a VOC folder.

    VOC counts pixels from 1 and includes the last one, so ``x = xmin - 1`` and
    ``w = xmax - xmin + 1``. Boxes with ``xmax == xmin`` or ``ymax == ymin`` have no area in the
    drawing tools that write them; they are left out and listed in ``skipped``. ``difficult``
    objects are kept with ``ignore`` set.

    Args:
        root: folder with ``Annotations`` and ``ImageSets/Main``.
        split: name of a list in ``ImageSets/Main``, such as "train".
        class_names: the classes to keep, in order; by default all names found in
            ``Annotations``, of every split, in alphabetical order, so that splits agree.
        name: of the data set; "ROOT/SPLIT" by default.
        images_dir: folder of the images; ``JPEGImages`` or ``images`` by default.
        on_bad: "error" raises at the first bad entry, "skip" leaves bad entries out and lists
            them in ``skipped``.

    Raises:
        UserError: names the file and what is wrong in it.
    """
    check_on_bad(on_bad)
    root = Path(root)
    stems = voc_split(root, split)
    folder = Path(images_dir) if images_dir is not None else voc_images_dir(root)
    skipped: list[str] = []
    files = _read_all(root, stems, on_bad, skipped)
    check_distinct(class_names or ())
    names = tuple(class_names) if class_names is not None else _all_names(root, files)
    label_of = {n: i for i, n in enumerate(names)}
    _report_others(files, label_of, str(root), skipped)
    images, annotations, next_id = [], [], 1
    used: dict[Path, str] = {}
    for number, (stem, content) in enumerate(files.items(), start=1):
        _report(content.problems, on_bad, skipped)
        where = root / "Annotations" / f"{stem}.xml"
        usable = _usable(content, label_of, str(where), skipped)
        path = voc_image_path(folder, stem, content.file_name)
        shared = twice_used(path, stem, used)
        if shared and on_bad == "error":
            raise UserError(f"Invalid annotation file {where}: {shared}")
        if shared:
            skipped.append(f"{where}: {shared}")
            continue
        name_in_folder = relative_name(path, folder)
        images.append(ImageRecord(number, path, name_in_folder, content.width, content.height))
        annotations.append(_pack(usable, label_of, next_id))
        next_id += len(usable)
    return DetectionDataset(
        name=name or f"{root.name}/{split}",
        images=images,
        class_names=names,
        category_ids=tuple(range(1, len(names) + 1)),
        annotations=annotations,
        skipped=skipped,
    )


def voc_split(root: Path, split: str) -> list[str]:
    """Names, without suffix, of the images of a split."""
    lists = root / "ImageSets" / "Main"
    path = lists / f"{split}.txt"
    if not is_file(path):
        known = sorted(p.stem for p in lists.glob("*.txt"))
        found = f"one of {', '.join(known)}" if known else f"{split}.txt in {lists}"
        raise UserError(
            f"Invalid split of {root}. Expected {found}. Received {shown(split)}."
            f"{suggestion(split, known)}"
        )
    lines = [line.strip() for line in read_text(path, "Split list").splitlines()]
    stems = _listed(root / "Annotations", [line for line in lines if line])
    if not stems:
        raise UserError(f"Split list is empty: {path}")
    if len(set(stems)) < len(stems):
        twice = next(s for s, count in Counter(stems).items() if count > 1)
        raise UserError(
            f"Invalid split list {path}. Expected each image once. Received {shown(twice)} twice."
        )
    return stems


def _listed(folder: Path, lines: list[str]) -> list[str]:
    """Annotation files, without suffix, that the lines of a list name.

    Names may hold blanks, and lists of one class have a second column. What is there decides
    between both; without the column's -1, which leaves an image out.
    """
    whole = [_stem_of(folder, line) for line in lines]
    columns = [_COLUMN.fullmatch(line) for line in lines]
    if None in whole and all(columns):
        whole = [None] * len(lines)
    stems = []
    for line, found, column in zip(lines, whole, columns):
        if found is not None:
            stems.append(found)
        elif column is None:
            stems.append(line)
        elif column[2] != "-1":
            stems.append(_stem_of(folder, column[1]) or column[1])
    return stems


def _stem_of(folder: Path, name: str) -> str | None:
    """The annotation file that a name means, relative to the folder and without suffix."""
    bare, dot, suffix = name.rpartition(".")
    endings = [name, bare] if dot and f".{suffix}".lower() in (*_LOWER, ".xml") else [name]
    for ending in endings:
        found = find_file(folder, f"{ending}.xml")
        if found is not None:
            return relative_name(found, folder).removesuffix(".xml")
    return None


def voc_images_dir(root: Path) -> Path:
    """The folder of images of a VOC folder."""
    for name in ("JPEGImages", "images"):
        if (root / name).is_dir():
            return root / name
    raise UserError(f"Invalid VOC folder {root}. Expected a folder JPEGImages or images in it.")


def voc_image_path(folder: Path, stem: str, file_name: str) -> Path:
    """The image that belongs to an annotation file, by its stem or else by the name in it."""
    # The name inside the XML is often wrong, and could point out of the folder.
    for suffix in _SUFFIXES:
        candidate = folder / f"{stem}{suffix}"
        if is_file(candidate):
            return candidate
    beside = (folder / stem).parent
    names = [(folder, f"{stem}{suffix}") for suffix in _LOWER]
    for place, name in ((beside, file_name), (folder, file_name), *names):
        found = find_file(place, name.lstrip("/\\")) if name else None
        if found is not None and ".." not in found.parts[len(folder.parts) :]:
            return found
    return folder / f"{stem}.jpg"


def _read_all(root: Path, stems: list[str], on_bad: str, skipped: list[str]) -> dict[str, VocFile]:
    files = {}
    for stem in stems:
        try:
            files[stem] = read_voc_file(root / "Annotations" / f"{stem}.xml")
        except UserError as error:
            if on_bad == "error":
                raise
            skipped.append(str(error))
    return files


def _all_names(root: Path, files: dict[str, VocFile]) -> tuple[str, ...]:
    names = {o.name for content in files.values() for o in content.objects}
    folder = root / "Annotations"
    for path in folder.rglob("*.xml"):
        if relative_name(path, folder).removesuffix(".xml") not in files:
            try:
                names |= {o.name for o in read_voc_file(path).objects}
            except UserError:
                continue  # of another split, which reports it
    return tuple(sorted(names))


def _report(problems: list[str], on_bad: str, skipped: list[str]) -> None:
    if problems and on_bad == "error":
        raise UserError(f"Invalid annotation file {problems[0]}")
    skipped.extend(problems)


def _report_others(
    files: dict[str, VocFile], label_of: dict[str, int], source: str, skipped: list[str]
) -> None:
    names = Counter(o.name for content in files.values() for o in content.objects)
    for name in sorted(set(names) - set(label_of)):
        skipped.append(f"{source}: class {shown(name)} was not asked for: {names[name]} objects")


def _usable(
    content: VocFile, label_of: dict[str, int], where: str, skipped: list[str]
) -> list[VocObject]:
    kept = []
    for item in content.objects:
        if item.name not in label_of:
            continue
        if 0 in item.xywh[2:]:
            skipped.append(f"{where}: zero area: {shown(item.name)} {item.corners}")
        else:
            kept.append(item)
    return kept


def _pack(objects: list[VocObject], label_of: dict[str, int], first_id: int) -> Annotations:
    return Annotations.build(
        [o.xywh for o in objects],
        [label_of[o.name] for o in objects],
        ignore=[o.difficult for o in objects],
        ids=list(range(first_id, first_id + len(objects))),
    )
