"""Counts of categories, official parts of data sets, and awkward names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.cli.main import main
from unidet.data import DetectionDataset, load_coco, load_dataset
from unidet.data.frequencies import count_frequencies, read_frequencies
from unidet.data.subset import published_name, random_subset
from unidet.errors import UserError

Write = Callable[[Any], Path]


@pytest.fixture
def awkward() -> dict[str, Any]:
    """Names of Objects365 and OpenImages: blanks at the end, slips, one name twice."""
    names = {2: "Cigar/Cigarette ", 14: "Bench", 71: "Bench", 30: "Moniter/TV", 9: "Mouse"}
    images = [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 50} for i in range(1, 41)]
    annotations = [
        {"id": n, "image_id": i, "category_id": c, "bbox": [1, 1, 20, 20]}
        for n, (i, c) in enumerate([(1, 14), (1, 14), (2, 14), (2, 71), (3, 2), (9, 30)], start=1)
    ]
    return {
        "info": {"year": 2019},
        "images": images[::-1],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "freebase": "/m"} for i, name in names.items()],
    }


def test_awkward_names_stay_and_are_told_apart_by_id(awkward: dict[str, Any], write: Write) -> None:
    data = load_coco(write(awkward), ".")
    assert data.category_ids == (2, 9, 14, 30, 71)
    assert data.class_names == ("Cigar/Cigarette ", "Mouse", "Bench", "Moniter/TV", "Bench")
    of_second = data.annotations[[r.id for r in data.images].index(2)]
    assert of_second.labels.tolist() == [2, 4]
    again = data.to_coco()
    assert {c["id"]: c["name"] for c in again["categories"]} == {
        c["id"]: c["name"] for c in awkward["categories"]
    }
    chosen = load_coco(write(awkward), ".", class_names=["Mouse", "Cigar/Cigarette "])
    assert chosen.category_ids == (9, 2)
    for names, message in (
        (["Mouse", "Bench"], "'Bench', the name of categories 14, 71"),
        (["Cigar/Cigarette"], "'Cigar/Cigarette'"),
        (["Mouse", "Mouse"], "'Mouse' twice"),
    ):
        with pytest.raises(UserError, match=message):
            load_coco(write(awkward), ".", class_names=names)


def test_counts_of_images_and_boxes(awkward: dict[str, Any], write: Write) -> None:
    entries = count_frequencies(load_coco(write(awkward), "."))
    assert [e["id"] for e in entries] == [2, 9, 14, 30, 71]
    counts = [(e["image_count"], e["instance_count"]) for e in entries]
    assert counts == [(1, 1), (0, 0), (2, 3), (1, 1), (1, 1)]
    assert entries[0]["freebase"] == "/m"


def test_command_writes_what_is_read_again(
    awkward: dict[str, Any],
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write(awkward)
    command = ["data", "frequencies", str(source)]
    assert main(command) == 0
    assert "5 categories, 6 boxes, 1 without any" in capsys.readouterr().out
    out = tmp_path / "annotations_cat_info.json"
    assert isinstance(json.loads(out.read_text()), list)
    assert main(command) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "f.json")]) == 0
    counts = read_frequencies(out, load_coco(source, "."))
    assert counts.dtype == np.int64 and counts.tolist() == [1, 0, 2, 1, 1]
    part = load_coco(source, ".", class_names=["Moniter/TV", "Mouse"])
    assert read_frequencies(out, part).tolist() == [1, 0]


def test_frequencies_of_lvis_are_read(sample_data: Path) -> None:
    path = sample_data / "data/lvis/lvis_val_100.json"
    counts = read_frequencies(path, load_coco(path, "."))
    assert counts.shape == (1230,) and counts.min() >= 0


def test_wrong_frequencies_are_named(
    awkward: dict[str, Any], write: Write, scenes: DetectionDataset, tmp_path: Path
) -> None:
    data, path = load_coco(write(awkward), "."), tmp_path / "f.json"
    sound = count_frequencies(data)
    cases: list[tuple[Any, str]] = [
        (count_frequencies(scenes), "another data set: category 2"),
        (sound[1:], r"category 2 \('Cigar/Cigarette '\) is no such id"),
        ([{**e, "name": e["name"].strip()} for e in sound], "is 'Cigar/Cigarette' there"),
        ([{**sound[0], "image_count": -1}, *sound[1:]], "entry 0"),
        ([*sound[:-1], {"id": 71, "name": "Bench"}], "entry 4"),
        (["Bench"], "entry 0"),
        ({"a": 1}, "Received a dict"),
    ]
    for content, message in cases:
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message) as caught:
            read_frequencies(path, data)
        assert "f.json" in str(caught.value) and "\n" not in str(caught.value)
    path.write_text("[")
    with pytest.raises(UserError, match="is not JSON"):
        read_frequencies(path, data)
    with pytest.raises(UserError, match="not found"):
        read_frequencies(tmp_path / "none.json", data)


def test_official_rule_draws_the_official_images(awkward: dict[str, Any], write: Write) -> None:
    data = load_coco(write(awkward), ".")
    part = random_subset(data, percent=13, seed=1, rule="unidetector")
    # First int(0.13 * 40) of arange(40) shuffled by the generator that np.random.seed(1) sets.
    assert [r.id for r in part.images] == [40 - i for i in sorted((2, 31, 3, 21, 27))]
    whole = random_subset(data, percent=100, seed=1, rule="unidetector")
    assert [r.id for r in whole.images] == [r.id for r in data.images]
    larger = random_subset(data, percent=40, seed=1, rule="unidetector")
    assert {r.id for r in part.images} < {r.id for r in larger.images} and len(larger) == 16
    for options, message in (
        ({"percent": 2}, "at least one of 40"),
        ({"count": 3}, "Received 3"),
        ({"percent": 0}, "above 0"),
    ):
        with pytest.raises(UserError, match=message):
            random_subset(data, rule="unidetector", **options)
    with pytest.raises(UserError, match="Did you mean 'unidetector'"):
        random_subset(data, percent=50, rule="unidetectr")


def test_command_writes_the_official_file(
    awkward: dict[str, Any],
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write(awkward)
    command = ["data", "subset", str(source), "--seed", "1", "--rule", "unidetector"]
    assert main([*command, "--percent", "12.5"]) == 0
    text = capsys.readouterr().out
    assert "40 (100 %)" in text and "5 (12.5 %)" in text
    out = json.loads((tmp_path / "annotations.1@12.5.json").read_text())
    assert list(out) == ["images", "annotations", "categories"]
    ids = [i["id"] for i in out["images"]]
    assert ids == sorted(ids, reverse=True) and out["categories"] == awkward["categories"]
    assert out["annotations"] == [a for a in awkward["annotations"] if a["image_id"] in ids]
    assert main([*command, "--percent", "12.5"]) == 2
    assert main([*command, "--count", "5", "--out", str(tmp_path / "b.json")]) == 2
    assert main(["data", "subset", str(source), "--percent", "5"]) == 2
    assert "Missing option --out" in capsys.readouterr().err
    assert published_name("a/train.json", 5, 2) == Path("a/train.2@5.0.json")


def test_a_source_brings_embeddings_and_frequencies(
    awkward: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    source = write(awkward)
    np.save(tmp_path / "text.npy", np.arange(20, dtype=np.float16).reshape(5, 4))
    (tmp_path / "f.json").write_text(json.dumps(count_frequencies(load_coco(source, "."))))
    spec = {"annotations": source, "images": tmp_path, "frequencies": tmp_path / "f.json"}
    data = load_dataset({**spec, "embeddings": tmp_path / "text.npy", "count": 3})
    assert data.embeddings is not None and data.embeddings.shape == (5, 4)
    assert data.image_counts is not None and data.image_counts.tolist() == [1, 0, 2, 1, 1]
    assert load_dataset(spec).embeddings is None
    with pytest.raises(UserError, match="Expected 1 rows"):
        load_dataset({**spec, "embeddings": tmp_path / "text.npy", "class_names": ["Mouse"]})
    (tmp_path / "f.json").write_text("[]")
    with pytest.raises(UserError, match="another data set"):
        load_dataset(spec)
