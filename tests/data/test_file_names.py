"""What a file name means, whoever wrote it, and how outputs are named."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from unidet.data import load_voc
from unidet.data.coco import load_coco
from unidet.data.file_names import find_image, output_names
from unidet.errors import UserError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("spelt", "there"),
    [
        ("a.jpg", "a.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("..\\..\\media\\upload\\4\\a.jpg", "a.jpg"),
        ("C:\\photos\\cam1\\a.jpg", "cam1/a.jpg"),
        ("/home/other/data/cam1/a.jpg", "cam1/a.jpg"),
        ("./cam1/a.jpg", "cam1/a.jpg"),
        ("my%20photo.jpg", "my photo.jpg"),
        ("50%20off.jpg", "50%20off.jpg"),
        ("https://host.example/set/cam1/a.jpg?width=3", "cam1/a.jpg"),
        (unicodedata.normalize("NFD", "größe.jpg"), unicodedata.normalize("NFC", "größe.jpg")),
        (unicodedata.normalize("NFC", "größe.jpg"), unicodedata.normalize("NFD", "größe.jpg")),
        ("COCO_val2014_000000000042.jpg", "000000000042.jpg"),
        ("odd\\name.jpg", "odd\\name.jpg"),
    ],
)
def test_a_name_is_found_as_others_spell_it(tmp_path: Path, spelt: str, there: str) -> None:
    touch(tmp_path / "unrelated.jpg")
    expected = touch(tmp_path / there)
    assert find_image(tmp_path, spelt) == expected


def test_the_longest_end_decides(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    expected = touch(tmp_path / "cam1" / "a.jpg")
    assert find_image(tmp_path, "train\\cam1\\a.jpg") == expected


@pytest.mark.parametrize("name", ["x" * 300, "a\0b.jpg", "\ud800.jpg", "x/" * 5000, "%00"])
def test_names_that_no_system_holds_are_not_there(tmp_path: Path, name: str) -> None:
    assert find_image(tmp_path, name) == tmp_path / name


def test_two_images_never_share_one_file(tmp_path: Path) -> None:
    touch(tmp_path / "0001.jpg")
    content: dict[str, Any] = {"annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    names = ("cam0/0001.jpg", "cam1/0001.jpg")
    content["images"] = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"'cam0/0001.jpg' and 'cam1/0001.jpg' are one file"):
        load_coco(path, tmp_path)
    kept = load_coco(path, tmp_path, on_bad="skip")
    assert [r.file_name for r in kept.images] == ["cam0/0001.jpg"] and len(kept.skipped) == 1


def test_outputs_keep_folders_and_never_meet() -> None:
    given = ("cam0/1.png", "cam1\\1.png", "cam1/1.jpg", "../../x.png", "/etc/y.png", "CAM0/1.png")
    assert output_names(given) == [
        "cam0/1.jpg",
        "cam1/1.jpg",
        "cam1/1-2.jpg",
        "x.jpg",
        "etc/y.jpg",
        "CAM0/1-2.jpg",
    ]


def voc(root: Path, stems: list[str], lines: list[str]) -> Path:
    for stem in stems:
        touch(root / "JPEGImages" / f"{stem}.jpg")
        touch(root / "Annotations" / f"{stem}.xml").write_text("<annotation/>")
    touch(root / "ImageSets/Main/train.txt").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize(
    ("stems", "lines", "expected"),
    [
        (["my photo 1", "b"], ["my photo 1  1", "b -1"], ["my photo 1.jpg"]),
        (["my photo 1", "b"], ["my photo 1", "b"], ["my photo 1.jpg", "b.jpg"]),
        (["cam0/1", "cam1/1"], ["cam0\\1", "cam1\\1"], ["cam0/1.jpg", "cam1/1.jpg"]),
        (["a", "b"], ["\ufeffa.jpg", "b.jpg"], ["a.jpg", "b.jpg"]),
    ],
)
def test_lists_of_voc(
    tmp_path: Path, stems: list[str], lines: list[str], expected: list[str]
) -> None:
    data = load_voc(voc(tmp_path, stems, lines), "train")
    assert [record.file_name for record in data.images] == expected
    assert all(record.path.is_file() for record in data.images)
