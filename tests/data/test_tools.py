"""Check, subset, convert, and their command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.cli.main import main
from unidet.data import DetectionDataset, load_coco, load_dataset, write_image
from unidet.data.check import check_dataset, check_voc
from unidet.data.subset import random_subset
from unidet.errors import UserError

Write = Callable[[Any], Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The images of ``tiny``."""
    folder = tmp_path / "images"
    folder.mkdir()
    write_image(folder / "a.png", np.zeros((30, 40, 3), np.uint8))
    write_image(folder / "b.png", np.zeros((30, 20, 3), np.uint8))
    return folder


def test_sound_data_has_notes_only(tiny: dict[str, Any], write: Write, images: Path) -> None:
    report = check_dataset(write(tiny), images)
    assert report.counts() == {"crowd boxes": 1, "image without boxes": 1}
    assert not report.defects and "no defects" in report.summary()


def test_every_defect_is_found_at_once(tiny: dict[str, Any], write: Write, images: Path) -> None:
    boxes = [
        [0, 0, float("nan"), 4],
        [0, 0, 4, -4],
        [5, 5, 0, 4],
        [-3, 0, 9, 9],
        [35, 25, 9, 9],
        "box",
    ]
    common = {"image_id": 7, "category_id": 4}
    tiny["annotations"] += [{"id": 10 + i, "bbox": b, **common} for i, b in enumerate(boxes)]
    tiny["annotations"] += [
        {"id": 2, "image_id": 7, "category_id": 4, "bbox": [20, 20, 5, 5]},
        {"id": 30, "image_id": 8, "category_id": 4, "bbox": [0, 0, 5, 5]},
        {"id": 31, "image_id": 7, "category_id": 5, "bbox": [0, 0, 5, 5]},
        {"id": 32, "image_id": 7, "category_id": 90, "bbox": [1.5, 2, 10, 5.3]},
        {"id": "x", "image_id": 7, "category_id": 90, "bbox": [20, 2, 10, 5.3]},
    ]
    tiny["images"] += [
        {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 20, "file_name": "gone.png", "width": 40, "height": 30},
        {"id": 21, "file_name": "cut.png", "width": 40, "height": 30},
        {"id": 22, "file_name": "text.png", "width": 40, "height": 30},
        {"id": 23, "file_name": "c.png", "width": 41, "height": 30},
        {"id": 24, "file_name": "c.png"},
        {"id": 26, "file_name": "d.png"},
        {"id": 25, "width": 1, "height": 1},
    ]
    data = (images / "a.png").read_bytes()
    (images / "cut.png").write_bytes(data[:-20])
    (images / "text.png").write_text("no image")
    (images / "c.png").write_bytes(data)
    (images / "d.png").write_bytes(data)
    report = check_dataset(write(tiny), images)
    assert report.counts() == {
        "duplicate id in images": 1,
        "two images in one file": 1,
        "duplicate id in annotations": 1,
        "no integer id": 1,
        "NaN or infinity in a box": 1,
        "negative size": 1,
        "malformed box": 1,
        "annotation of an unknown image": 1,
        "unknown category id": 1,
        "zero area": 1,
        "outside the image": 2,
        "near-duplicate boxes": 1,
        "crowd boxes": 1,
        "missing image file": 1,
        "truncated image file": 1,
        "undecodable image file": 1,
        "size disagrees with the file": 1,
        "image without a size": 1,
        "image without a file name": 1,
        "image without boxes": 6,
    }
    text = report.summary()
    assert "gone.png" in text and "41x30 said, 40x30 found" in text and "and 1 more" in text
    json.dumps(report.to_dict(), allow_nan=False)


def test_check_finds_the_known_defects_of_bccd(sample_data: Path) -> None:
    folder = sample_data / "data/bccd"
    for split, zero in (("train", 1), ("val", 1), ("test", 0)):
        counts = check_voc(folder, split, decode=False).counts()
        assert counts.get("zero area", 0) == zero
        coco = check_dataset(
            folder / f"annotations/instances_{split}.json", folder / "images", decode=False
        )
        assert not coco.defects


def test_subset_is_seeded_nested_and_keeps_categories(scenes: DetectionDataset) -> None:
    def chosen(**options: Any) -> list[int]:
        part = random_subset(scenes, **options)
        assert part.class_names == scenes.class_names
        assert part.to_coco()["categories"] == scenes.to_coco()["categories"]
        return [r.id for r in part.images]

    assert chosen(percent=40, seed=1) == chosen(count=4, seed=1) == sorted(chosen(count=4, seed=1))
    assert len({tuple(chosen(count=4, seed=s)) for s in range(5)}) > 1
    assert set(chosen(count=3)) < set(chosen(count=7))
    assert len(chosen(percent=0.01)) == 1 and len(chosen(percent=100)) == 10
    for options in ({}, {"percent": 5, "count": 1}, {"percent": 0}, {"count": 11}, {"count": 0}):
        with pytest.raises(UserError):
            random_subset(scenes, **options)


def test_load_dataset(scenes_dir: Path, sample_data: Path) -> None:
    spec = {"annotations": str(scenes_dir / "annotations.json"), "images": str(scenes_dir)}
    assert len(load_dataset(spec)) == 10
    assert len(load_dataset({**spec, "percent": 30, "name": "x"})) == 3
    root = sample_data / "data/voc100"
    by_root = load_dataset({"format": "voc", "root": root, "split": "val"})
    by_list = load_dataset({"format": "voc", "annotations": root / "ImageSets/Main/val.txt"})
    assert by_root.to_coco() == by_list.to_coco()
    for bad, message in (
        ({"format": "cocoa"}, "Did you mean 'coco'"),
        ({**spec, "imgs": 3}, "imgs"),
        ({"format": "lvis"}, "annotations"),
        ({"format": "voc", "annotations": "val.json"}, "SPLIT.txt"),
    ):
        with pytest.raises(UserError, match=message):
            load_dataset(bad)


def test_command_scenes_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s"
    scenes = ["data", "scenes", str(out), "--count", "2", "--size", "64", "80"]
    assert main([*scenes, "--classes", "ring, star"]) == 0
    assert main(scenes) == 2 and "not empty" in capsys.readouterr().err
    check = ["data", "check", str(out / "annotations.json"), "--images", str(out / "images")]
    assert main([*check, "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["files"][0]["images"] == 2
    assert main([*check, "--json", str(tmp_path / "r.json")]) == 2
    (out / "images/000001.jpg").unlink()
    capsys.readouterr()
    assert main(check) == 1 and "missing image file" in capsys.readouterr().out
    assert main(["data", "check", str(out / "none.json")]) == 2


def test_command_subset(
    scenes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep/part.json"
    source = str(scenes_dir / "annotations.json")
    command = ["data", "subset", source, "--percent", "20", "--out", str(out)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "10 (100 %)" in text and "2 (20 %)" in text
    part = load_coco(out, scenes_dir / "images")
    assert len(part) == 2 and part.num_classes == 6
    first = out.read_bytes()
    assert main(command) == 2 and out.read_bytes() == first
    assert main([*command, "--seed", "9", "--overwrite"]) == 0
    assert main([*command[:3], "--percent", "20", "--count", "3", "--out", str(out)]) == 2


def test_command_subset_keeps_masks_and_unknown_keys(
    tiny: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    tiny["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    tiny["licenses"] = [{"id": 1}]
    out = tmp_path / "part.json"
    assert main(["data", "subset", str(write(tiny)), "--count", "2", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == tiny
    command = ["data", "subset", str(write(tiny)), "--count", "1", "--out", str(out), "--overwrite"]
    assert main(command) == 0
    part = json.loads(out.read_text())
    kept = {i["id"] for i in part["images"]}
    assert len(kept) == 1
    assert part["annotations"] == [a for a in tiny["annotations"] if a["image_id"] in kept]


def test_command_convert(
    sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = sample_data / "data/voc100", tmp_path / "val.json"
    command = ["data", "convert", str(root), "--split", "val", "--out", str(out)]
    assert main(command) == 0 and "78 boxes" in capsys.readouterr().out
    data = load_coco(out, root / "images")
    assert data.num_boxes == 78 and sum(a.ignore.sum() for a in data.annotations) == 13
    assert not check_dataset(out, root / "images", decode=False).defects
    assert main(command) == 2
    assert main(["data", "convert", str(root), "--out", str(tmp_path / "x.json")]) == 2
    broken = tmp_path / "broken"
    shutil.copytree(root / "ImageSets", broken / "ImageSets")
    (broken / "images").mkdir()
    assert main(["data", "convert", str(broken), "--split", "val", "--out", str(out)]) == 2


def test_crowded_images_are_searched_within_bounds(write: Write) -> None:
    def report(boxes: list[list[float]]) -> dict[str, int]:
        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 4000, "height": 4000}],
            "categories": [{"id": 1, "name": "x"}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "bbox": box}
                for i, box in enumerate(boxes, 1)
            ],
        }
        return check_dataset(write(content)).counts()

    many = [[i % 90, i % 80, 5, 5] for i in range(20_000)]
    assert report(many) == {"near-duplicate boxes": 1000}
    column = [[7.0, i * 0.2, 5, 0.1] for i in range(20_000)]
    assert report(column) == {}
    # Side by side, and as far apart as an overlap above 0.9 allows.
    pairs = [[0, 0, 100, 100], [4, 0, 100, 100], [0, 6, 100, 100], [200, 200, 9, 9]]
    assert report(pairs) == {"near-duplicate boxes": 1}
