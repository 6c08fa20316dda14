"""Pascal VOC folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.data import load_voc
from unidet.errors import UserError

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
    "<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
)


def make(root: Path, files: dict[str, str], split: str = "train") -> Path:
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem, body in files.items():
        text = (
            body
            if body.startswith("<?") or "<annotation" in body
            else (
                f"<annotation><size><width>50</width><height>40</height></size>{body}</annotation>"
            )
        )
        (root / "Annotations" / f"{stem}.xml").write_text(text)
    (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(files) + "\n")
    return root


def item(name: str, *box: Any, difficult: int | str = 0) -> str:
    return OBJECT.format(name=name, box=box, difficult=difficult)


def test_corners_count_from_one_and_include_the_last_pixel(tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 50, 40) + item("ant", 3, 4, 3.5, 9, difficult=1)})
    data = load_voc(tmp_path, "train")
    assert data.class_names == ("ant", "cat") and data.category_ids == (1, 2)
    entry = data.annotations[0]
    np.testing.assert_array_equal(entry.boxes_xyxy, [[0, 0, 50, 40], [2, 3, 3.5, 9]])
    np.testing.assert_array_equal(entry.ignore, [False, True])
    assert data.to_coco()["annotations"][1]["ignore"] == 1
    assert (data.images[0].width, data.images[0].height) == (50, 40)


def test_splits_agree_on_classes(tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 5, 5)}, "train")
    make(tmp_path, {"b": item("bee", 1, 1, 5, 5)}, "val")
    names = {load_voc(tmp_path, split).class_names for split in ("train", "val")}
    assert names == {("bee", "cat")}


def test_chosen_classes_keep_their_order(tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 5, 5) + item("bee", 1, 1, 5, 5)})
    data = load_voc(tmp_path, "train", class_names=["dog", "cat"])
    assert data.class_names == ("dog", "cat")
    np.testing.assert_array_equal(data.annotations[0].labels, [1])
    assert any("'bee'" in line for line in data.skipped)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (item("cat", 1, "nan", 5, 5), "bndbox"),
        (item("cat", 1, "", 5, 5), "bndbox"),
        (item("cat", 9, 1, 5, 5), "negative size"),
        (item("", 1, 1, 5, 5), "<name>"),
        ("<annotation><object>", "not XML"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>", "DOCTYPE"),
        ("<?xml version='1.0' encoding='utf-7'?><annotation/>", "UTF-8"),
    ],
)
def test_bad_files_are_named(body: str, message: str, tmp_path: Path) -> None:
    make(tmp_path, {"good": item("cat", 1, 1, 5, 5), "bad": body})
    with pytest.raises(UserError, match=r"bad\.xml") as caught:
        load_voc(tmp_path, "train")
    assert message in str(caught.value)
    data = load_voc(tmp_path, "train", on_bad="skip")
    assert data.num_boxes == 1 and any(message in line for line in data.skipped)


def test_entities_are_refused_in_every_disguise(tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 5, 5)})
    path = tmp_path / "Annotations/a.xml"
    text = "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>"
    for data in (text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode()):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.xml"):
            load_voc(tmp_path, "train")


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", None), ("utf-8-sig", None), ("utf-8", "UTF-8"), ("latin-1", "ISO-8859-1"),
        ("utf-16", "UTF-16"), ("utf-16", None),
    ],
)  # fmt: skip
def test_encodings(encoding: str, declared: str | None, tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 5, 5)})
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = f"{head}<annotation>{item('naïve', 1, 1, 5, 5)}</annotation>"
    (tmp_path / "Annotations/a.xml").write_bytes(text.encode(encoding))
    assert load_voc(tmp_path, "train").class_names == ("naïve",)


@pytest.mark.parametrize(
    ("text", "ignored"),
    [("0", False), ("1", True), ("true", True), (" False ", False), ("", False)],
)
def test_difficult(text: str, ignored: bool, tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 5, 5, difficult=text)})
    assert load_voc(tmp_path, "train").annotations[0].ignore.tolist() == [ignored]
    (tmp_path / "Annotations/a.xml").write_text(
        f"<annotation>{item('cat', 1, 1, 5, 5, difficult='2')}</annotation>"
    )
    with pytest.raises(UserError, match=r"a\.xml.*<difficult> is neither 0 nor 1: '2'"):
        load_voc(tmp_path, "train")


def test_deep_nesting(tmp_path: Path) -> None:
    make(tmp_path, {"a": "<annotation>" + "<b>" * 100_000 + "</b>" * 100_000 + "</annotation>"})
    assert load_voc(tmp_path, "train").num_boxes == 0


def test_wrong_split_is_answered_with_a_suggestion(tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 5, 5)})
    with pytest.raises(UserError, match="Did you mean 'train'"):
        load_voc(tmp_path, "trian")


def test_missing_xml_is_named(tmp_path: Path) -> None:
    make(tmp_path, {"a": item("cat", 1, 1, 5, 5)})
    (tmp_path / "Annotations/a.xml").unlink()
    with pytest.raises(UserError, match=r"a\.xml"):
        load_voc(tmp_path, "train")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_bccd_equals_its_coco_form(split: str, sample_data: Path) -> None:
    folder = sample_data / "data/bccd"
    data = load_voc(folder, split)
    want = json.loads((folder / f"annotations/instances_{split}.json").read_text())

    def rows(content: dict[str, Any]) -> list[Any]:
        names = {i["id"]: i["file_name"] for i in content["images"]}
        return sorted(
            (names[a["image_id"]], a["category_id"], *a["bbox"], a["area"])
            for a in content["annotations"]
        )

    assert rows(data.to_coco()) == rows(want)
    zero_area = [line for line in data.skipped if "zero area" in line]
    assert len(zero_area) == {"train": 1, "val": 1, "test": 0}[split]


def test_voc100_counts(sample_data: Path) -> None:
    found = [load_voc(sample_data / "data/voc100", split) for split in ("train", "val")]
    assert [(len(d), d.num_boxes, d.num_classes) for d in found] == [(70, 195, 20), (30, 78, 20)]
    assert sum(a.ignore.sum() for d in found for a in d.annotations) == 38
    assert all(record.path.is_file() for record in found[0].images)
