"""The export command, and predict with what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.support import model_of, pictures
from unidet.backends import registry
from unidet.checkpoints.native import Checkpoint, save_checkpoint, write_checkpoint
from unidet.cli.main import main
from unidet.errors import UserError
from unidet.export import OnnxDetector, export_onnx
from unidet.export.packages import onnx_package
from unidet.visualization.draw import write_image

NAMES = ("disc", "square", "star", "ring", "cross")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, two photos, and exported files."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures()):
        write_image(folder / "photos" / f"{number}.png", picture)
    models = {
        "whole": model_of("end to end", class_names=NAMES),
        "second": model_of("stage 2, calibrated"),
    }
    for name, model in models.items():
        save_checkpoint(folder / f"{name}.safetensors", model)
    export_onnx(models["whole"], folder / "whole.onnx")
    export_onnx(models["second"], folder / "second.onnx")
    classifier = {"name": "resnet18", "arguments": {"num_classes": 2}}
    write_checkpoint(folder / "classifier.safetensors", Checkpoint({}, classifier))
    (folder / "text.onnx").write_text("no model")
    proto = onnx.load(folder / "whole.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, folder / "stranger.onnx")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_exports_and_checks(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "m.onnx"
    words = ["export", str(place / "whole.safetensors"), "--out", str(out), "--opset", "18"]
    assert main([*words, "--check", str(place / "photos")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and "detections matched" in printed[0]
    assert printed[-1].startswith("unidetector_e2e_r50_c4, opset 18, ")
    assert [entry.version for entry in onnx.load(out).opset_import] == [18]
    assert OnnxDetector(out).class_names == NAMES


def test_a_file_that_differs_is_not_written(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unidet.export import boxes

    monkeypatch.setattr(
        "unidet.models.faster_rcnn.export.decode", lambda c, d, a: boxes.decode(c, d * 1.5, a)
    )
    out = tmp_path / "m.onnx"
    words = ["export", str(place / "whole.safetensors"), "--out", str(out)]
    assert main([*words, "--check", str(place / "photos" / "0.png")]) == 1
    assert "differ; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["absent.safetensors", "--out", "new.onnx"], "Checkpoint not found: absent.safetensors"),
        (["whole.safetensors", "--out", "whole.onnx"], "Received whole.onnx, which exists"),
        (["whole.safetensors", "--out", "no/new.onnx"], "Expected an existing folder"),
        (["whole.safetensors", "--out", "photos"], "Received the folder photos"),
        (["whole.safetensors", "--out", "new.onnx", "--opset", "15"], "Expected 16 to 20"),
        (["whole.safetensors", "--out", "new.onnx", "--check", "absent.jpg"], "absent.jpg"),
        (["whole.safetensors", "--out", "new.onnx", "--check", "text.onnx"], "text.onnx"),
        (["classifier.safetensors", "--out", "new.onnx"], "resnet18, which finds no boxes"),
        (["text.onnx", "--out", "new.onnx"], "text.onnx"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    expected: str,
    place: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    before = files(place)
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert files(place) == before


def test_overwrites_when_asked(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("earlier")
    words = ["export", str(place / "whole.safetensors"), "--out", str(out), "--overwrite"]
    assert main(words) == 0
    assert OnnxDetector(out).class_names == NAMES


def test_a_model_without_vocabulary_is_refused(tmp_path: Path) -> None:
    model = model_of("end to end")
    model.set_training_vocabularies([np.zeros((5, 32), np.float32)])
    with pytest.raises(UserError, match="vocabulary"):
        export_onnx(model, tmp_path / "m.onnx")


def test_other_bad_arguments(tmp_path: Path) -> None:
    model = model_of("end to end")
    with pytest.raises(ValueError, match="Expected 16 to 20"):
        export_onnx(model, tmp_path / "m.onnx", opset=9)
    from unidet.models import create_model

    with pytest.raises(UserError, match="Received resnet18"):
        export_onnx(create_model("resnet18", backend="torch", num_classes=2), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["export", str(place / "whole.safetensors"), "--out", str(tmp_path / "m.onnx")]
    onnx_package.cache_clear()
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "onnx", None)
        assert main(words) == 2
    assert "Install it: pip install 'unidet[export]'" in capsys.readouterr().err
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "onnxruntime", None)
        assert main(["predict", str(place / "whole.onnx"), str(place / "photos")]) == 2
    assert "Missing package onnxruntime" in capsys.readouterr().err
    with monkeypatch.context() as context:
        context.setattr(registry, "available", lambda: ("jittor",))
        assert main(words) == 2
    assert "pip install 'unidet[torch]'" in capsys.readouterr().err


PREDICT = """
import sys
from unidet.cli.main import main
status = main(sys.argv[1:])
heavy = [name for name in ("torch", "jittor", "onnx") if name in sys.modules]
assert not heavy, heavy
sys.exit(status)
"""


def test_predicts_without_a_framework(place: Path, tmp_path: Path) -> None:
    photos, options = str(place / "photos"), ["--score-threshold", "0.05", "--out"]
    words = ["predict", str(place / "whole.onnx"), photos, *options, str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", PREDICT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = predictions(tmp_path)
    assert [row["name"] for row in content["categories"]] == list(NAMES)
    assert len(content["annotations"]) > 5
    assert (tmp_path / "0.png").is_file()
    out = tmp_path / "torch"
    words = ["predict", str(place / "whole.safetensors"), photos, *options, str(out)]
    assert main([*words, "--backend", "torch"]) == 0
    wanted = predictions(out)["annotations"]
    assert len(wanted) == len(content["annotations"])
    for ours, theirs in zip(content["annotations"], wanted):
        assert ours["category_id"] == theirs["category_id"]
        np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=0.01)


def predictions(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "predictions.json").read_text())


def test_predicts_with_two_files(place: Path, tmp_path: Path) -> None:
    first = export_onnx(model_of("stage 1"), tmp_path / "first.onnx")
    words = ["predict", str(place / "second.onnx"), str(place / "photos" / "0.png")]
    words += ["--proposals-from", str(first), "--out", str(tmp_path), "--score-threshold", "0.05"]
    assert main(words) == 0
    assert predictions(tmp_path)["annotations"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["absent.onnx"], "Invalid model absent.onnx. Expected an ONNX file. Found none."),
        (["text.onnx"], "Invalid model text.onnx"),
        (["stranger.onnx"], "without unidet's metadata"),
        (["second.onnx"], "Missing option --proposals-from"),
        (["second.onnx", "--proposals-from", "whole.onnx"], "Received one of 5 classes"),
        (["whole.onnx", "--proposals-from", "second.onnx"], "which finds its own"),
        (["whole.onnx", "--backend", "torch"], "Invalid option --backend"),
        (["whole.onnx", "--classes", "cat"], "Invalid option --classes"),
        (["whole.onnx", "--device", "cuda"], "Expected cpu with an ONNX file"),
    ],
)
def test_predict_refuses(
    words: list[str],
    expected: str,
    place: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    before = files(place)
    assert main(["predict", words[0], "photos/0.png", *words[1:]]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert files(place) == before


def test_proposals_of_a_wrong_shape_are_refused(place: Path) -> None:
    second, whole = OnnxDetector(place / "second.onnx"), OnnxDetector(place / "whole.onnx")
    picture = pictures()[0]
    with pytest.raises(UserError, match="Missing first stage"):
        second(picture)
    with pytest.raises(ValueError, match=r"Expected shape \(n, 5\), with scores"):
        second(picture, proposals=np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="Received some"):
        whole(picture, proposals=np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match="score_threshold"):
        whole(picture, score_threshold=2)
