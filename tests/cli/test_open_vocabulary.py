"""Commands that find what they are told to: predict, eval with calibration, and the manual."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detector.vocabularies import vectors, write_all, write_vectors
from unidet.cli.main import main
from unidet.data import load_coco
from unidet.models.unidetector.calibration import prior_weights
from unidet.text.cache import CLIP_VARIABLE, VARIABLE
from unidet.text.vocabulary import VARIABLE as MERGES_VARIABLE

MANUAL = Path(__file__).parents[2] / "docs" / "open_vocabulary.md"
PHOTO = "d/images/000000.jpg"
DATA = ["--data", "d/annotations.json", "--images", "d/images"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from unidet.backends import available

    folder = write_all(tmp_path_factory.mktemp("files"), available()[0])
    content = json.loads((folder / "d/annotations.json").read_text())
    names = tuple(category["name"] for category in content["categories"])
    write_vectors(folder / "v.npy", names, vectors(len(names)))
    return folder


@pytest.fixture
def place(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(MERGES_VARIABLE, "merges.txt")
    monkeypatch.delenv(CLIP_VARIABLE, raising=False)
    return folder


def predictions(folder: str) -> tuple[list[str], set[int]]:
    """Names that were looked for, and the labels that were found."""
    content = json.loads(Path(folder, "predictions.json").read_text())
    names = [category["name"] for category in content["categories"]]
    return names, {annotation["category_id"] for annotation in content["annotations"]}


@pytest.mark.slow_on("jittor")
def test_predict_finds_what_is_named(
    backend: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["predict", "e2e.safetensors", PHOTO, "--backend", backend, "--score-threshold", "0"]
    words = [*base, "--classes", "cat, traffic cone", "--clip", "clip3.safetensors"]
    assert main([*words, "--templates", "plain", "--out", "a"]) == 0
    assert predictions("a") == (["cat", "traffic cone"], {0, 1})
    assert " cat" in capsys.readouterr().out
    Path("names.txt").write_text("tree, old\n")
    words = [*base, "--classes", "@names.txt", "--classes", "cat,dog", "--clip"]
    assert main([*words, "clip3.safetensors", "--templates", "plain", "--out", "b"]) == 0
    assert predictions("b") == (["tree, old", "cat", "dog"], {0, 1, 2})
    assert main([*base, "--classes", "star,disc", "--embeddings", "v.npy", "--out", "c"]) == 0
    assert predictions("c") == (["star", "disc"], {0, 1})
    assert main([*base, "--out", "own"]) == 0
    assert predictions("own")[0] == ["disc", "square"]


def test_predict_in_two_stages(backend: str, place: Path) -> None:
    base = ["predict", "stage2.safetensors", PHOTO, "--backend", backend, "--score-threshold", "0"]
    base += ["--classes", "star,disc", "--embeddings", "v.npy", "--proposals-from"]
    counts = []
    for more in (["--beta", "0.3"], ["--beta", "0.3", "--max-proposals", "3"]):
        assert main([*base, "cln.safetensors", *more, "--out", f"o{len(counts)}"]) == 0
        content = json.loads(Path(f"o{len(counts)}/predictions.json").read_text())
        counts.append(len(content["annotations"]))
    assert counts[0] > counts[1] == 3 * 2


def of_class(path: str) -> dict[int, list[tuple[int, list[float], float]]]:
    """Image, box and score of each result, by category."""
    found = defaultdict(list)
    for entry in json.loads(Path(path).read_text()):
        box = [round(v, 1) for v in entry["bbox"]]
        found[entry["category_id"]].append((entry["image_id"], box, entry["score"]))
    return {key: sorted(rows) for key, rows in found.items()}


def test_calibration_weighs_the_classes_of_the_data(
    backend: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twelve boxes of six classes: all are kept, so scores differ by the weights alone."""
    words = ["eval", "e2e.safetensors", *DATA, "--embeddings", "v.npy", "--backend", backend]
    assert main([*words, "--results", "raw.json"]) == 0
    assert "Average Precision" in capsys.readouterr().out
    counts = [1, 10, 0, 100, 7, 50]
    Path("prior.json").write_text(json.dumps(counts))
    more = ["--gamma", "0.6", "--class-prior", "prior.json", "--results", "new.json"]
    assert main([*words, *more]) == 0
    raw, new = of_class("raw.json"), of_class("new.json")
    ids = load_coco("d/annotations.json", "d/images").category_ids
    weights = prior_weights(np.array(counts), 0.6)
    assert sorted(raw) == sorted(new) == sorted(ids)
    for number, weight in zip(ids, weights):
        assert [row[:2] for row in raw[number]] == [row[:2] for row in new[number]]
        scores = np.array([[a[2], b[2]] for a, b in zip(raw[number], new[number])])
        np.testing.assert_allclose(scores[:, 1], scores[:, 0] * weight, rtol=1e-4)


def test_priors_of_all_forms_agree(place: Path) -> None:
    dataset = load_coco("d/annotations.json", "d/images")
    from unidet.evaluation.class_prior import read_class_prior

    counts = (2, 0, 3, 1, 5, 4)
    results = [
        {"image_id": dataset.images[i % 4].id, "category_id": number, "bbox": [], "score": 0.5}
        for number, count in zip(dataset.category_ids, counts)
        for i in range(count)
    ]
    Path("r.json").write_text(json.dumps(results))
    Path("c.json").write_text(json.dumps(counts))
    rows = [[np.zeros((c, 5), np.float32) for c in counts], [np.zeros((0, 5))] * len(counts)]
    Path("r.pkl").write_bytes(pickle.dumps(rows))
    named = {"class_names": dataset.class_names, "detections": counts}
    Path("n.json").write_text(json.dumps(named))
    for name in ("r.json", "c.json", "n.json", "r.pkl"):
        assert read_class_prior(name, dataset) == counts


def test_two_stages_are_evaluated_with_scores(backend: str, place: Path) -> None:
    run = ["--backend", backend]
    assert main(["proposals", "cln.safetensors", *DATA, *run, "--out", "p.npz"]) == 0
    words = ["eval", "stage2.safetensors", *DATA, *run, "--embeddings", "v.npy", "--proposals"]
    words += ["p.npz", "--max-proposals", "3", "--results"]
    assert main([*words, "a.json"]) == 0
    assert main([*words, "b.json", "--beta", "0"]) == 0
    assert len(json.loads(Path("a.json").read_text())) == 4 * 3 * 6
    with np.load("p.npz") as arrays:
        best = np.concatenate([arrays[name][:3, 4] for name in arrays.files])
    # Beta 0 leaves the score of the proposal alone, for every class.
    scores = [entry["score"] for entry in json.loads(Path("b.json").read_text())]
    np.testing.assert_allclose(
        np.unique(np.round(scores, 5)), np.unique(np.round(best, 5)), atol=2e-5
    )


def test_lvis_counts_more_detections(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lvis", reason="the package lvis is not installed")
    from unidet.backends import available

    content = json.loads(Path("d/annotations.json").read_text())
    for image in content["images"]:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        image["coco_url"] = f"http://images/{image['file_name']}"
    for category, group in zip(content["categories"], "rcfrcf"):
        category.update(frequency=group, image_count=1, instance_count=1)
    Path("d/lvis.json").write_text(json.dumps(content))
    words = ["eval", "stage2.safetensors", "--data", "d/lvis.json", "--images", "d/images"]
    words += ["--backend", available()[0], "--embeddings", "v.npy", "--proposals", "p.npz"]
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (4, 30, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(8, 20, (4, 30, 2))], axis=2)
    np.savez("p.npz", **{str(i["id"]): b for i, b in zip(content["images"], boxes)})
    for kind, most in (("coco", 100), ("lvis", 30 * 6)):
        assert main([*words, "--format", kind, "--results", f"{kind}.json"]) == 0
        ids = [entry["image_id"] for entry in json.loads(Path(f"{kind}.json").read_text())]
        assert max(map(ids.count, ids)) == most
    assert "catIds=  r]" in capsys.readouterr().out


def test_inspection_shows_the_vocabulary(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(name: str) -> str:
        assert main(["convert", "inspect", f"{name}.safetensors"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(line for line in lines if line.startswith("vocabulary"))

    assert shown("e2e").endswith("2 classes, text vectors of 12 numbers: disc, square")
    assert shown("empty").endswith("all zero (not given yet)")
    assert shown("cln").endswith("1 class: object")


def test_the_manual_runs(backend: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in {
        "unidetector.safetensors": "e2e.safetensors",
        "RN50.pt": "clip3.safetensors",
        "photo.jpg": PHOTO,
    }.items():
        shutil.copy(source, name)
    write_vectors(place / "vectors.npy", ("traffic cone", "cat"), vectors(2))
    blocks = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, Any] = {}
    for block in blocks:
        block = re.sub(r'backend="\w+"', f'backend="{backend}"', block)
        exec(compile(block, str(MANUAL), "exec"), names)
    assert names["result"].class_names == ("cat", "traffic cone")
    assert names["vectors"].shape == (2, 12)
    assert Path("cats_and_cones.safetensors").is_file()
