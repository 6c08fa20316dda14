"""COCO-form files: what a sound one means, and what a broken one says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.data import load_coco
from unidet.errors import UserError

Write = Callable[[Any], Path]


def test_sparse_ids_become_contiguous_in_order_of_id(tiny: dict[str, Any], write: Write) -> None:
    data = load_coco(write(tiny), "photos")
    assert data.class_names == ("plane", "brush")
    assert data.category_ids == (4, 90)
    assert [r.id for r in data.images] == [7, 3]
    first, second = data.annotations
    np.testing.assert_array_equal(first.labels, [1, 0])
    np.testing.assert_array_equal(first.boxes_xyxy, [[1.5, 2, 11.5, 7.25], [0, 0, 4, 4]])
    np.testing.assert_array_equal(first.crowd, [False, True])
    np.testing.assert_array_equal(first.areas, [52.5, 9])
    assert len(second) == 0 and second.boxes_xyxy.shape == (0, 4)
    assert data.aspect_ratio(0) == pytest.approx(4 / 3)
    assert data.images[0].path == Path("photos/a.png")


def test_to_coco_gives_back_ids_and_boxes(tiny: dict[str, Any], write: Write) -> None:
    out = load_coco(write(tiny), "photos").to_coco()
    for old, new in zip(tiny["annotations"], out["annotations"], strict=True):
        for key in ("id", "image_id", "category_id", "bbox"):
            assert new[key] == old[key]
    assert {c["id"]: c["name"] for c in out["categories"]} == {4: "plane", 90: "brush"}
    assert [i["id"] for i in out["images"]] == [7, 3]
    json.dumps(out)


def test_class_names_select_and_order(tiny: dict[str, Any], write: Write) -> None:
    data = load_coco(write(tiny), ".", class_names=["brush"])
    assert data.category_ids == (90,) and data.num_boxes == 1
    with pytest.raises(UserError, match="brsh"):
        load_coco(write(tiny), ".", class_names=["brsh"])


def test_targets_are_copies(tiny: dict[str, Any], write: Write) -> None:
    data = load_coco(write(tiny), ".")
    data.targets(0).boxes_xyxy[:] = 0
    assert data.annotations[0].boxes_xyxy.max() > 0


def test_missing_annotation_ids_are_numbered(tiny: dict[str, Any], write: Write) -> None:
    for entry in tiny["annotations"]:
        del entry["id"]
    ids = [a["id"] for a in load_coco(write(tiny), ".").to_coco()["annotations"]]
    assert ids == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("{not json", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("[1, 2]", "Received a list"),
        ('{"images": [], "categories": []}', "'annotations'"),
        ('{"annotations": [], "categories": []}', "'images'"),
        ('{"images": 3, "annotations": [], "categories": []}', "Received int"),
    ],
)
def test_unusable_files_are_named(text: str, message: str, write: Write) -> None:
    path = write(text)
    for on_bad in ("error", "skip"):
        with pytest.raises(UserError, match=message) as caught:
            load_coco(path, ".", on_bad=on_bad)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json"):
        load_coco(tmp_path / "nowhere.json", ".")


DEFECTS: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("annotations[0]", lambda d: d["annotations"][0].update(category_id=5), "'category_id' 5"),
    ("annotations[0]", lambda d: d["annotations"][0].update(image_id=5), "'image_id' 5"),
    ("annotations[1]", lambda d: d["annotations"][1].update(id=1), "occurs twice"),
    ("annotations[0]", lambda d: d["annotations"][0].update(bbox=[0, 0, -1, 3]), "negative"),
    ("annotations[0]", lambda d: d["annotations"][0].update(bbox=[0, float("nan"), 1, 3]), "NaN"),
    ("annotations[0]", lambda d: d["annotations"][0].update(bbox=[0, 1e999, 1, 3]), "infinity"),
    ("annotations[0]", lambda d: d["annotations"][0].update(bbox=[0, 0, 1]), "'bbox'"),
    ("annotations[0]", lambda d: d["annotations"][0].update(bbox="1234"), "'bbox'"),
    ("annotations[0]", lambda d: d["annotations"][0].pop("bbox"), "'bbox'"),
    ("annotations[0]", lambda d: d["annotations"][0].update(area="big"), "'area'"),
    ("annotations[0]", lambda d: d["annotations"].__setitem__(0, 3), "no object"),
    ("images[1]", lambda d: d["images"][1].update(id=7), "occurs twice"),
    ("images[1]", lambda d: d["images"][1].pop("file_name"), "'file_name'"),
    ("images[1]", lambda d: d["images"][1].update(width=-3), "'width'"),
    ("categories[1]", lambda d: d["categories"][1].update(id=90), "occurs twice"),
    ("categories[1]", lambda d: d["categories"][1].pop("name"), "'name'"),
]


@pytest.mark.parametrize(("where", "spoil", "message"), DEFECTS)
def test_bad_entries_raise_or_are_skipped(
    where: str,
    spoil: Callable[[dict[str, Any]], Any],
    message: str,
    tiny: dict[str, Any],
    write: Write,
) -> None:
    sound = load_coco(write(tiny), ".")
    broken = copy.deepcopy(tiny)
    spoil(broken)
    path = write(broken)
    with pytest.raises(UserError) as caught:
        load_coco(path, ".")
    for part in (str(path), where, message):
        assert part in str(caught.value)
    data = load_coco(path, ".", on_bad="skip")
    assert any(where in line and message in line for line in data.skipped)
    before = len(sound) + sound.num_boxes + sound.num_classes
    assert len(data) + data.num_boxes + data.num_classes < before


def test_on_bad_is_checked(tiny: dict[str, Any], write: Write) -> None:
    with pytest.raises(ValueError, match="on_bad"):
        load_coco(write(tiny), ".", on_bad="ignore")


def test_bccd_counts(sample_data: Path) -> None:
    for split, images, boxes in (("train", 205, 2804), ("val", 87, 1137), ("test", 72, 945)):
        folder = sample_data / "data/bccd"
        data = load_coco(folder / f"annotations/instances_{split}.json", folder / "images")
        assert (len(data), data.num_boxes) == (images, boxes)
        assert all(r.path.is_file() for r in data.images)


def test_coco_tiny_has_80_sparse_classes_and_crowds(sample_data: Path) -> None:
    folder = sample_data / "data/coco_tiny"
    data = load_coco(folder / "annotations/instances_train.json", folder / "images")
    assert data.num_classes == 80 and data.category_ids[-1] == 90
    assert (len(data), data.num_boxes) == (50, 470)
    assert sum(a.crowd.sum() for a in data.annotations) == 5
    assert sum(len(a) == 0 for a in data.annotations) == 1


def test_lvis_is_readable_and_finds_renamed_images(sample_data: Path) -> None:
    folder = sample_data / "data/lvis"
    whole = load_coco(folder / "lvis_val_100.json", folder / "images")
    assert (len(whole), whole.num_boxes, whole.num_classes) == (100, 977, 1230)
    assert "neg_category_ids" in whole.images[0].extra
    assert whole.to_coco()["categories"][0]["frequency"] == "r"
    small = load_coco(folder / "lvis_val_3.json", folder / "images")
    for i, record in enumerate(small.images):
        assert record.file_name.startswith("COCO_val2014_")
        assert small.read(i).shape == (record.height, record.width, 3)


def test_lvis_v1_takes_the_name_from_the_url(tiny: dict[str, Any], write: Write) -> None:
    del tiny["images"][0]["file_name"]
    tiny["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/000000000007.jpg"
    data = load_coco(write(tiny), "photos")
    assert data.images[0].file_name == "train2017/000000000007.jpg"
