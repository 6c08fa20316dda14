"""Pictures of another size or orientation than their annotation."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unidet.cli.main import main
from unidet.data import DetectionDataset, Loader, Preprocess, load_coco
from unidet.data.sources import load_dataset
from unidet.errors import UserError

SMALL = Preprocess(resize="none")
TURNED = r"photo1\.jpg \(60x40 said, 40x60 found; its rotation tag 6.*exif_transpose"
HALVED = r"photo1\.jpg \(60x40 said, 30x20 found\)"


def spoil(path: Path, how: str) -> None:
    picture = Image.open(path).convert("RGB")
    if how == "halved":
        picture.resize((30, 20)).save(path)
    elif how == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-200])


def make(root: Path, how: str, *, sizes: bool = True) -> Path:
    """Four pictures of 60x40 with a box each; the second is spoilt after annotation."""
    (root / "images").mkdir(parents=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "red"}],
    }
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"images/photo{number}.jpg")
        entry: dict[str, Any] = {"id": number + 1, "file_name": f"photo{number}.jpg"}
        content["images"].append({**entry, "width": 60, "height": 40} if sizes else entry)
        box = {"id": number + 1, "image_id": number + 1, "category_id": 1, "area": 400}
        content["annotations"].append({**box, "bbox": [5, 5, 20, 20], "iscrowd": 0})
    spoil(root / "images/photo1.jpg", how)
    (root / "boxes.json").write_text(json.dumps(content))
    return root / "boxes.json"


def make_voc(root: Path, how: str) -> DetectionDataset:
    make(root, how)
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    for number in range(4):
        (root / f"Annotations/photo{number}.xml").write_text(
            f"<annotation><filename>photo{number}.jpg</filename><size><width>60</width>"
            "<height>40</height><depth>3</depth></size><object><name>red</name><bndbox><xmin>6"
            "</xmin><ymin>6</ymin><xmax>25</xmax><ymax>25</ymax></bndbox></object></annotation>"
        )
    (root / "ImageSets/Main/train.txt").write_text("photo0\nphoto1\nphoto2\nphoto3\n")
    return load_dataset({"format": "voc", "root": root, "split": "train"})


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("how", "message"), [("turned", TURNED), ("halved", HALVED)])
def test_loaders_stop_with_name_and_sizes(
    how: str, message: str, workers: int, cache: bool, tmp_path: Path
) -> None:
    for data in (
        load_coco(make(tmp_path / "coco", how), tmp_path / "coco/images"),
        make_voc(tmp_path / "voc", how),
    ):
        for shuffle in (False, True):
            with pytest.raises(UserError, match=message):
                list(
                    Loader(data, SMALL, 2, num_workers=workers, shuffle=shuffle, cache_images=cache)
                )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["turned", "halved", "cut", "gone"])
def test_bad_pictures_are_left_out_and_counted(
    how: str, workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = load_coco(make(tmp_path, how), tmp_path / "images")
    loader = Loader(data, SMALL, 2, num_workers=workers, on_bad="skip")
    with caplog.at_level(logging.WARNING):
        seen = [int(i) for _ in range(2) for batch in loader.epoch(0) for i in batch.image_ids]
    assert seen == [1, 3, 4, 1, 3, 4]
    assert len(caplog.records) == len(loader.left_out) == 1
    assert "photo1.jpg" in loader.left_out[0]


def test_annotations_without_sizes_are_taken(tmp_path: Path) -> None:
    data = load_coco(make(tmp_path, "halved", sizes=False), tmp_path / "images")
    assert [b.original_sizes[0] for b in Loader(data, SMALL, 1)] == [(40, 60), (20, 30)] + [
        (40, 60)
    ] * 2


CONFIG = """
model:
  name: retinanet_r18_fpn
  arguments: {fpn_channels: 32, head_depth: 1, preprocess: {resize: none}}
data:
  root: ROOT
  train: [{annotations: boxes.json, images: images}]
  val: [{annotations: boxes.json, images: images}]
  batch_size: 2
train: {epochs: 1, max_steps: 2}
"""


def test_commands(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training, the search for a rate, evaluation and proposals, all of the same data."""
    make(tmp_path, "turned")
    config, run = tmp_path / "c.yaml", tmp_path / "run"
    config.write_text(CONFIG.replace("ROOT", str(tmp_path)))
    train = ["train", str(config), "--backend", backend, "--work-dir", str(run)]
    assert main(train) == 2
    assert re.search(TURNED, capsys.readouterr().err)
    find = ["lr-find", str(config), "--backend", backend, "--steps", "10"]
    assert main([*find, "--out", str(tmp_path / "lr.png")]) == 2
    assert re.search(TURNED, capsys.readouterr().err)
    assert main([*train, "--set", "data.on_bad=skip", "--overwrite"]) == 0
    assert capsys.readouterr().out.count("1 of 4 images left out") == 2
    data = ["--data", str(tmp_path / "boxes.json"), "--images", str(tmp_path / "images")]
    for command, more in (
        ("eval", ["--pictures", str(tmp_path / "drawn")]),
        ("proposals", ["--out", str(tmp_path / "boxes.npz"), "--stage", "detections"]),
    ):
        line = [command, str(run / "last.safetensors"), "--backend", backend, *data, *more]
        assert main(line) == 2
        assert re.search(TURNED, capsys.readouterr().err)
        assert main([*line, "--on-bad", "skip"]) == 0
        assert re.search("1 of 4 images left out, the first: .*photo1", capsys.readouterr().err)
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == [
        f"photo{i}.jpg" for i in (0, 2, 3)
    ]
    assert sorted(np.load(tmp_path / "boxes.npz").files) == ["1", "3", "4"]
