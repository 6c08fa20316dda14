"""Pascal VOC: annotation files and lists of images."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated_bytes
from unidet.data import load_voc

PLAIN = (
    b"<annotation><filename>a.jpg</filename><size><width>50</width><height>40</height></size>"
    b"<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>"
    b"<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
SEEDS = (
    PLAIN,
    b'<?xml version="1.0" encoding="utf-8"?>' + PLAIN,
    '<?xml version="1.0" encoding="utf-16"?>'.encode("utf-16") + PLAIN.decode().encode("utf-16-le"),
    b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + PLAIN,
    PLAIN.replace(b"50", b"9" * 5000).replace(b"30", b"1e308"),
    PLAIN.replace(b"40", b"nan").replace(b">0<", b">maybe<"),
    b"<a>" * 20_000,
)
LISTS = (b"a\n", b"a  1\nb -1\n", b"\xef\xbb\xbfmy photo 1\n", b"cam0\\a\ncam1/a\n")


def _folder(root: Path, xml: bytes, names: bytes) -> Path:
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "Annotations" / "a.xml").write_bytes(xml)
    (root / "ImageSets/Main/train.txt").write_bytes(names)
    return root


@fuzz(mutated_bytes(*SEEDS))
def test_annotation_files(case: bytes, tmp_path: Path) -> None:
    root = _folder(tmp_path, case, b"a\n")
    for on_bad in ("error", "skip"):
        with bounded():
            load_voc(root, "train", on_bad=on_bad)


@fuzz(mutated_bytes(*LISTS))
def test_lists(case: bytes, tmp_path: Path) -> None:
    root = _folder(tmp_path, PLAIN, case)
    for on_bad in ("error", "skip"):
        with bounded():
            load_voc(root, "train", on_bad=on_bad)
