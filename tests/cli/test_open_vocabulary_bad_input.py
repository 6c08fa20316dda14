"""Bad vocabularies, proposals and priors: one line that names the culprit, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detector.vocabularies import LENGTH, vectors, write_all, write_vectors
from unidet.backends import available
from unidet.cli.main import main
from unidet.text.cache import CLIP_VARIABLE, VARIABLE
from unidet.text.vocabulary import VARIABLE as MERGES_VARIABLE

HERE = available()[0]
PREDICT = f"predict e2e.safetensors d/images/000000.jpg --backend {HERE} --out out "
SECOND = f"predict stage2.safetensors d/images/000000.jpg --backend {HERE} --out out "
DATA = f" --data d/annotations.json --images d/images --backend {HERE} --results out.json "
EVAL = "eval e2e.safetensors" + DATA
EVAL2 = "eval stage2.safetensors --embeddings v.npy" + DATA
CALIBRATE = EVAL + "--embeddings v.npy --gamma 0.6 --class-prior "
BOX = np.array([[1, 2, 30, 40, 0.5]], np.float32)


class Hostile:
    """Runs a command where an unpickler lets it."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def write_bad_files() -> None:
    content = json.loads(Path("d/annotations.json").read_text())
    ids = [image["id"] for image in content["images"]]
    category = content["categories"][0]["id"]
    names = tuple(category["name"] for category in content["categories"])
    write_vectors(Path("v.npy"), names, vectors(len(names)))
    write_vectors(Path("long.npy"), None, vectors(2, LENGTH + 4))
    write_vectors(Path("six_long.npy"), None, vectors(6, LENGTH + 4))
    write_vectors(Path("five.npy"), None, vectors(5))
    write_vectors(Path("nan.npy"), None, np.full((2, LENGTH), np.nan))
    write_vectors(Path("named.npy"), ("traffic_cone", "cat"), vectors(2))
    write_vectors(Path("order.npy"), names[::-1], vectors(len(names)))
    write_vectors(Path("one_name.npy"), ("cat",), vectors(2))
    Path("cut.npy").write_bytes(Path("five.npy").read_bytes()[:100])
    np.savez("other.npz", **{str(900 + i): BOX for i in range(4)})
    np.savez("some.npz", **{str(i): BOX for i in ids[:2]})
    np.savez("bare.npz", **{str(i): BOX[:, :4] for i in ids})
    for name, found in {
        "three": [BOX] * 3,
        "hostile": [Hostile()],
        "whole": [BOX] * 4,
        "coco": [[BOX] * 80] * 4,
    }.items():
        Path(f"{name}.pkl").write_bytes(pickle.dumps(found))
    Path("cut.pkl").write_bytes(Path("whole.pkl").read_bytes()[:-20])
    entry = {"image_id": ids[0], "category_id": category, "bbox": [1, 1, 2, 2], "score": 0.5}
    for name, prior in {
        "counts": [1, 2, 3],
        "negative": [1, 2, 3, 4, 5, -1],
        "object": {},
        "names": {"class_names": ["a"] * 6, "detections": [1] * 6},
        "category": [{**entry, "category_id": 999}],
        "image": [{**entry, "image_id": 999}],
        "keys": [{"image_id": 1}],
    }.items():
        Path(f"{name}.json").write_text(json.dumps(prior))
    Path("text.json").write_text("no JSON")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_all(tmp_path_factory.mktemp("files"), HERE)
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_bad_files()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def place(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(files, folder, copy_function=os.link)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, str(folder / "cache"))
    monkeypatch.setenv(MERGES_VARIABLE, "merges.txt")
    monkeypatch.delenv(CLIP_VARIABLE, raising=False)
    return folder


def refused(command: str, *expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    def contents() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}

    before = contents()
    capsys.readouterr()
    assert main(shlex.split(command)) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("unidet: error: ") and shown.err.count("\n") == 1, shown.err
    for text in expected:
        assert text in shown.err
    assert contents() == before


CASES = {
    # Vocabularies.
    PREDICT + "--classes cat,dog,cat --clip clip3.safetensors": ("`--classes`", "'cat' twice"),
    PREDICT + "--classes ' , '": ("`--classes`", "' , '"),
    PREDICT + "--classes cat": ("--embeddings", "--clip", CLIP_VARIABLE),
    PREDICT + "--classes @absent.txt": ("File of class names not found: absent.txt",),
    PREDICT + "--classes cat,dog --embeddings five.npy": ("five.npy", "2 rows", "Received 5"),
    PREDICT + "--classes cat,dog --embeddings long.npy": ("long.npy", "12 numbers", "16"),
    PREDICT + "--classes cat,dog --embeddings nan.npy": ("nan.npy", "NaN"),
    PREDICT + "--classes cat,dog --embeddings cut.npy": ("cut.npy", "cannot be read"),
    PREDICT + "--classes cat,dog --embeddings absent.npy": ("not found: absent.npy",),
    PREDICT + "--classes 'traffic cone' --embeddings named.npy": (
        "named.npy",
        "'traffic cone'",
        "Did you mean 'traffic_cone'?",
    ),
    PREDICT + "--classes cat --embeddings one_name.npy": ("one_name.json", "2 names"),
    PREDICT + "--embeddings five.npy": ("Missing option --classes", "--embeddings"),
    PREDICT + "--classes cat --embeddings v.npy --clip clip3.safetensors": ("--clip", "both"),
    PREDICT + "--classes cat --clip absent.pt": ("CLIP not found: absent.pt",),
    PREDICT + "--classes cat --clip e2e.safetensors": ("e2e.safetensors", "text tower"),
    PREDICT + "--classes cat --clip clip3.safetensors --bpe absent.gz": ("absent.gz",),
    PREDICT + "--classes cat --clip clip3.safetensors --templates x": ("`templates`", "'x'"),
    PREDICT.replace("e2e", "cln") + "--classes cat": ("cln.safetensors", "classes are fixed"),
    PREDICT.replace("e2e", "empty"): ("empty.safetensors", "zeros alone", "--classes"),
    EVAL + "--embeddings five.npy": ("five.npy", "6 rows", "Received 5"),
    EVAL + "--embeddings six_long.npy": ("six_long.npy", "12 numbers", "16"),
    EVAL + "--embeddings order.npy": ("order.npy", "their order"),
    EVAL: ("2 of the model", "--embeddings"),
    EVAL.replace("e2e", "empty"): ("empty.safetensors", "zeros alone"),
    EVAL.replace("e2e", "cln") + "--embeddings v.npy": ("--embeddings", "cln.safetensors"),
    # Two stages.
    SECOND: ("Missing option --proposals-from", "stage2.safetensors"),
    SECOND + "--proposals-from stage2.safetensors": ("first stage stage2.safetensors", "2 classes"),
    SECOND + "--proposals-from clip3.safetensors": ("clip3.safetensors", "finds no boxes"),
    SECOND + "--proposals-from absent.safetensors": ("not found: absent.safetensors",),
    SECOND + "--proposals-from cln.safetensors --beta 2": ("`--beta`", "2.0"),
    SECOND + "--proposals-from cln.safetensors --max-proposals 0": ("`--max-proposals`",),
    PREDICT + "--proposals-from cln.safetensors": ("--proposals-from", "finds its own"),
    PREDICT + "--max-proposals 3": ("--max-proposals", "unidetector_stage2_r50_c4"),
    PREDICT.replace("e2e", "cln") + "--beta 0.3": ("--beta", "cln.safetensors"),
    # Proposals.
    EVAL2: ("Missing option --proposals", "stage2.safetensors"),
    EVAL2 + "--proposals other.npz": ("other.npz", "0 of 4 images"),
    EVAL2 + "--proposals some.npz": ("some.npz", "2 of 4 images", "000002.jpg"),
    EVAL2 + "--proposals three.pkl": ("three.pkl", "4 images", "Received 3"),
    EVAL2 + "--proposals hostile.pkl": ("hostile.pkl", "system", "nothing was executed"),
    EVAL2 + "--proposals cut.pkl": ("cut.pkl", "cut off"),
    EVAL2 + "--proposals bare.npz --beta 0.3": ("bare.npz", "with scores", "0.3"),
    # Calibration.
    EVAL + "--gamma 0.6": ("Missing option --class-prior",),
    EVAL + "--class-prior counts.json": ("Missing option --gamma",),
    EVAL + "--gamma -1 --class-prior counts.json": ("`--gamma`", "-1"),
    CALIBRATE + "absent.json": ("Class prior not found: absent.json",),
    CALIBRATE + "counts.json": ("counts.json", "6 classes", "Received 3", "another data set"),
    CALIBRATE + "coco.pkl": ("coco.pkl", "6 classes", "Received 80", "another data set"),
    CALIBRATE + "category.json": ("category.json", "no category 999", "another data set"),
    CALIBRATE + "image.json": ("image.json", "no image 999", "another data set"),
    CALIBRATE + "negative.json": ("negative.json", "-1 in entry 5"),
    CALIBRATE + "object.json": ("object.json", "Received a dict"),
    CALIBRATE + "names.json": ("names.json", "'class_names'", "another data set"),
    CALIBRATE + "keys.json": ("keys.json", "'category_id'", "entry 0"),
    CALIBRATE + "text.json": ("text.json", "is not JSON"),
    CALIBRATE + "hostile.pkl": ("class prior hostile.pkl", "system", "nothing was executed"),
    CALIBRATE + "cut.pkl": ("class prior cut.pkl", "cut off"),
    CALIBRATE + "whole.pkl": ("whole.pkl", "image 0"),
    # Options that a file has no use for.
    "eval some.npz --data d/annotations.json --beta 0.3": ("--beta", "some.npz"),
    "eval --check-results keys.json --data d/annotations.json --embeddings v.npy": (
        "--embeddings",
        "keys.json",
    ),
}


@pytest.mark.parametrize("command", CASES)
def test_bad_input(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(command, *CASES[command], capsys=capsys)


def test_clip_of_the_environment_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CLIP_VARIABLE, "gone.pt")
    refused(PREDICT + "--classes cat", "gone.pt", CLIP_VARIABLE, capsys=capsys)


def test_without_a_tokenizer_the_error_says_how_to_get_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    monkeypatch.delenv(MERGES_VARIABLE)
    real = importlib.util.find_spec
    hidden = ("clip", "open_clip")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in hidden else real(n))
    command = PREDICT + "--classes cat --clip clip3.safetensors"
    refused(command, "pip install openai-clip", capsys=capsys)


def test_a_clip_of_another_tower_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.detector.vocabularies import E2E, build
    from unidet.checkpoints.native import save_checkpoint

    model = build("unidetector_e2e_r50_c4", HERE, **{**E2E, "embedding_dim": 8})
    save_checkpoint("e2e.safetensors", model)
    command = PREDICT + "--classes cat --clip clip3.safetensors"
    refused(command, "clip3.safetensors", "8 numbers", "one with 12", capsys=capsys)


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        ("embeddings", "five.npy", ("five.npy", "6 rows")),
        ("embeddings", "six_long.npy", ("`data.train.0.embeddings`", "12", "Received 16")),
        ("embeddings", "order.npy", ("order.npy", "their order")),
        ("frequencies", "frequencies.json", ("frequencies.json", "another data set")),
        ("proposals", "other.npz", ("other.npz", "0 of 4 images")),
        ("proposals", "some.npz", ("some.npz", "2 of 4 images")),
        ("proposals", "three.pkl", ("three.pkl", "4 images")),
        ("proposals", "hostile.pkl", ("hostile.pkl", "nothing was executed")),
        ("proposals", "cut.pkl", ("cut.pkl", "cut off")),
    ],
)
def test_training_refuses_them_before_it_starts(
    key: str,
    name: str,
    expected: tuple[str, ...],
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.detector.vocabularies import SMALL

    Path("frequencies.json").write_text(
        json.dumps([{"id": 1, "name": "person", "image_count": 3, "instance_count": 3}])
    )
    source = {"annotations": "d/annotations.json", "images": "d/images", "embeddings": "v.npy"}
    config = {
        "model": {
            "name": "unidetector_stage2_r50_c4",
            "arguments": {k: v for k, v in SMALL.items() if k != "num_classes"},
        },
        "data": {"train": [{**source, "proposals": "whole.pkl", key: name}], "batch_size": 2},
        "train": {"epochs": 1, "eval_every": 0},
    }
    Path("c.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = f"train c.yaml --backend {HERE} --work-dir w --quiet"
    refused(command, *expected, capsys=capsys)
