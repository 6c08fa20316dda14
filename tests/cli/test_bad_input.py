"""Bad files given to commands: one line that names the culprit, exit status 2, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_train_command import TINY
from unidet.cli.main import main

CONFIG = TINY.split("data:")[0] + (
    "data:\n  train: [{annotations: d/annotations.json, images: d/images}]\n"
    "  val: [{annotations: d/annotations.json, images: d/images}]\n  batch_size: 2\n"
    "train: {epochs: 1, eval_every: 0}\n"
)
TRAIN = ["train", "c.yaml", "--backend", "torch", "--work-dir", "w", "--quiet"]
CHECK = ["data", "check", "d/annotations.json", "--images", "d/images"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, a classifier, and the detector cut in half."""
    pytest.importorskip("torch")
    from unidet.checkpoints.native import save_checkpoint
    from unidet.models import create_model

    folder = tmp_path_factory.mktemp("checkpoints")
    small = {"fpn_channels": 8, "head_depth": 1, "head_groups": 2, "preprocess": {"resize": "none"}}
    detector = create_model("retinanet_r18_fpn", backend="torch", num_classes=6, **small)
    save_checkpoint(folder / "detector.safetensors", detector)
    from unidet.checkpoints.native import Checkpoint, write_checkpoint

    model = {"name": "resnet18", "arguments": {"num_classes": 2}}
    write_checkpoint(folder / "classifier.safetensors", Checkpoint({}, model))
    whole = (folder / "detector.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "scenes", "d", "--count", "4", "--size", "64", "64"]) == 0
    Path("c.yaml").write_text(CONFIG)
    Path("file").write_text("in the way")
    return tmp_path


def contents(place: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(place.rglob("*"))}


def refused(
    words: list[str], expected: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place)
    capsys.readouterr()
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("unidet: error: ") and shown.err.count("\n") == 1
    for text in expected:
        assert text in shown.err
    assert contents(place) == before


def edit(change: Callable[[dict[str, Any]], Any]) -> None:
    path = Path("d/annotations.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_box(box: list[float]) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["annotations"][1].update(bbox=box)


def cut_image() -> None:
    path = Path("d/images/000002.jpg")
    path.write_bytes(path.read_bytes()[:700])


DAMAGES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "missing": (lambda: Path("d/images/000002.jpg").unlink(), ["not found", "000002.jpg"]),
    "truncated": (cut_image, ["truncated", "000002.jpg"]),
    "NaN": (lambda: edit(set_box([1, 2, float("nan"), 4])), ["annotations[1]", "NaN"]),
    "negative": (lambda: edit(set_box([1, 2, -3, 4])), ["annotations[1]", "negative"]),
    "empty": (lambda: Path("d/annotations.json").write_text(""), ["empty", "annotations.json"]),
    "category": (
        lambda: edit(lambda c: c["annotations"][1].update(category_id=77)),
        ["annotations[1]", "77"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data(
    damage: str, place: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage][0]()
    expected = DAMAGES[damage][1]
    evaluate = ["eval", str(checkpoints / "detector.safetensors"), "--backend", "torch"]
    evaluate += ["--data", "d/annotations.json", "--images", "d/images", "--json", "o.json"]
    refused(TRAIN, expected, place, capsys)
    refused(evaluate, expected, place, capsys)
    if damage in ("missing", "truncated"):
        words = ["predict", str(checkpoints / "detector.safetensors"), "--backend", "torch"]
        images = [f"d/images/00000{i}.jpg" for i in (0, 2)]
        refused([*words, *images, "--out", "drawn"], ["000002.jpg"], place, capsys)
    assert main(CHECK) == (2 if damage == "empty" else 1)


def test_training_data_without_a_box(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    edit(lambda c: c["annotations"].clear())
    refused(TRAIN, ["`data.train`", "at least one box", "4 images"], place, capsys)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("classifier", ["Expected a detector", "resnet18"]),
        ("cut", ["cut.safetensors", "damaged or cut off"]),
        ("none", ["not found", "none.safetensors"]),
    ],
)
def test_wrong_checkpoints(
    name: str,
    expected: list[str],
    place: Path,
    checkpoints: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(checkpoints / f"{name}.safetensors")
    data = ["--data", "d/annotations.json", "--images", "d/images", "--backend", "torch"]
    refused(["eval", file, *data], expected, place, capsys)
    refused(["predict", file, "d/images", "--backend", "torch"], expected, place, capsys)
    if name != "classifier":
        refused(["parity", file], expected, place, capsys)
        for words in (
            ["pt2jt", file, "o.pkl"],
            ["jt2pt", file, "o.pth"],
            ["import", file, "o.safetensors"],
            ["export", file, "o.pth", "--to", "yhenon_retinanet"],
            ["inspect", file],
        ):
            refused(["convert", *words], [f"{name}.safetensors"], place, capsys)
        refused([*TRAIN, "--set", f"train.weights={file}"], expected, place, capsys)


def test_folders_and_other_files_in_place_of_checkpoints(
    place: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run").mkdir()
    Path("run/best.safetensors").write_bytes(b"")
    words = ["predict", "run", "d/images", "--backend", "torch"]
    refused(words, ["a folder", "Did you mean run/best.safetensors"], place, capsys)
    refused(["parity", "d/images/000001.jpg"], ["000001.jpg"], place, capsys)
    refused(["plot", "d/images/000001.jpg"], ["000001.jpg", "folder of a run"], place, capsys)
    refused(["compare", "file", "run"], ["file", "folder of a run"], place, capsys)


def test_a_place_below_a_file_is_refused_before_any_work(
    place: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(checkpoints / "detector.safetensors")
    data = ["--data", "d/annotations.json", "--images", "d/images", "--backend", "torch"]
    for words in (
        ["train", "c.yaml", "--backend", "torch", "--work-dir", "file/w"],
        ["train", "c.yaml", "--backend", "torch", "--work-dir", "file"],
        ["eval", model, *data, "--json", "file/o.json"],
        ["eval", model, *data, "--results", "file/o.json"],
        ["eval", model, *data, "--pictures", "file/o"],
        ["predict", model, "d/images", "--backend", "torch", "--out", "file/o"],
        ["parity", model, "--json", "file/o.json"],
        ["parity", model, "--record", "file/o.npz", "--backend", "torch"],
        ["compare", "d", "--csv", "file/o.csv"],
        ["plot", "d", "--out", "file/o.png"],
        ["lr-find", "c.yaml", "--backend", "torch", "--out", "file/o.png"],
        ["data", "check", "d/annotations.json", "--json", "file/o.json"],
        ["data", "subset", "d/annotations.json", "--count", "2", "--out", "file/o.json"],
        ["convert", "pt2jt", model, "file/o.pkl"],
    ):
        refused(words, ["file", "no folder"], place, capsys)


def test_metrics_and_classes_are_checked_before_training(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    for change, expected in (
        ("train.best_metric=mAP", ["`train.best_metric`", "Did you mean 'AP'"]),
        ("train.best_metric=val_loss", ["`train.best_metric`", "evaluation.losses=true"]),
        ("schedule={kind: plateau, metric: foo}", ["`schedule.metric`", "'foo'"]),
        ("data.class_names=[disc, disc]", ["`class_names`", "'disc' twice"]),
        ("model.arguments.num_classes=six", ["num_classes", "'six'"]),
    ):
        refused([*TRAIN, "--set", change], expected, place, capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--max-detections", "0"], "--max-detections"),
        (["--max-pictures", "-1"], "--max-pictures"),
        (["--score-threshold", "7"], "--score-threshold"),
        (["--batch-size", "0"], "--batch-size"),
    ],
)
def test_numbers_out_of_range(
    words: list[str], expected: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["eval", "x.safetensors", "--data", "d/annotations.json", "--images", "d/images"]
    refused([*given, *words], [f"`{expected}`", words[1]], place, capsys)


def test_ground_truth_that_is_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("truth.json").write_text('{"images": [1], "categories": [2]}')
    Path("r.json").write_text("[]")
    words = ["eval", "--check-results", "r.json", "--data", "truth.json"]
    refused(words, ["truth.json", "categories[0]", "no integer 'id'"], place, capsys)
