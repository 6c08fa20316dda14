"""The proposals command, and the recall that the eval command prints of its file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unidet.backends import nn, ops
from unidet.checkpoints.native import save_checkpoint
from unidet.cli.main import main
from unidet.data import load_coco
from unidet.data.proposals import read_proposals
from unidet.evaluation.propose import choose_stage
from unidet.models import create_model

RPN = {
    "num_classes": 3,
    "fpn_channels": 16,
    "head_channels": 16,
    "rpn_post_nms_test": 20,
    "preprocess": {"resize": "fixed", "size": [64, 96]},
}
ONE = {
    "num_classes": 1,
    "class_names": ("object",),
    "fpn_channels": 16,
    "head_channels": 16,
    "head_depth": 1,
    "head_groups": 4,
    "score_threshold": 0.001,
    "preprocess": {"resize": "fixed", "size": [64, 96]},
}


def _spread(model: Any, name: str) -> Any:
    """Weights whose scores differ from place to place."""
    arrays = nn.state_arrays(model)
    rng = np.random.default_rng(3)
    arrays[name] = rng.normal(0, 0.5, arrays[name].shape).astype(np.float32)
    nn.load_arrays(model, arrays)
    return model


@pytest.fixture
def words(photos: Path, backend: str) -> list[str]:
    return ["--data", str(photos / "annotations.json"), "--images", str(photos)]


def test_first_stage_is_written_and_scored(
    backend: str,
    words: list[str],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = create_model("faster_rcnn_r18_fpn", backend=backend, **RPN)
    checkpoint = tmp_path / "two.safetensors"
    save_checkpoint(checkpoint, _spread(model, "rpn.cls_out.weight"))
    out = tmp_path / "new" / "boxes.npz"
    command = ["proposals", str(checkpoint), *words, "--backend", backend, "--out"]
    assert main([*command, str(out), "--batch-size", "2"]) == 0
    assert "2 images" in capsys.readouterr().out
    dataset = load_coco(photos / "annotations.json", photos)
    found = read_proposals(out, dataset)
    for rows, record in zip(found, dataset.images):
        assert rows.shape[1] == 5 and 0 < len(rows) <= 20
        assert (np.diff(rows[:, 4]) <= 0).all() and 0 < rows[:, 4].min() <= rows[:, 4].max() < 1
        assert (rows[:, :2] >= 0).all() and (rows[:, :2] <= rows[:, 2:4]).all()
        assert (rows[:, 2:4] <= np.array([record.width, record.height]) + 1e-3).all()
    # They are the model's own, in pixels of the original.
    batch = model.preprocess.batch([dataset.read(1)])
    model.eval()
    like = next(iter(nn.parameters(model).values()))
    own = model(ops.asarray(batch.images, like=like), image_sizes=batch.image_sizes)
    sy, sx = batch.scales[0]
    boxes = own["proposals"][0] / np.array([sx, sy, sx, sy], np.float32)
    np.testing.assert_allclose(found[1][:, :4], boxes, atol=1e-3)
    np.testing.assert_allclose(found[1][:, 4], own["proposal_scores"][0], atol=1e-5)

    assert main([*command, str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    few = tmp_path / "few.pkl"
    assert main([*command, str(few), "--score-threshold", "0.5"]) == 0
    lists = pickle.loads(few.read_bytes())
    for rows, whole in zip(lists, found, strict=True):
        np.testing.assert_allclose(rows, whole[whole[:, 4] >= 0.5], atol=1e-4)
    capsys.readouterr()
    metrics = tmp_path / "m.json"
    assert main(["eval", str(out), *words, "--only-classes", "cat", "--json", str(metrics)]) == 0
    head, values = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "objects" and values.split()[0] == "2"
    assert {"AR100", "AR300", "AR1000", "AP"} <= set(json.loads(metrics.read_text())["metrics"])


def test_detections_of_one_class_are_proposals(
    backend: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = create_model("retinanet_r18_fpn", backend=backend, **ONE)
    checkpoint = tmp_path / "one.safetensors"
    save_checkpoint(checkpoint, _spread(model, "head.cls_out.weight"))
    out = tmp_path / "boxes.npz"
    command = ["proposals", str(checkpoint), *words, "--backend", backend, "--out", str(out)]
    assert main([*command, "--limit", "1"]) == 0
    with np.load(out) as arrays:
        assert arrays.files == ["10"] and arrays["10"].shape[1] == 5
    capsys.readouterr()
    results = tmp_path / "r.json"
    evaluation = ["eval", str(checkpoint), *words, "--backend", backend, "--results", str(results)]
    assert main([*evaluation, "--pictures", str(tmp_path / "pictures")]) == 0
    shown = capsys.readouterr()
    assert "boxes alone" in shown.err and shown.out.split()[:2] == ["objects", "AP"]
    assert {r["category_id"] for r in json.loads(results.read_text())} == {1}
    with np.load(out) as arrays:
        best = [r["score"] for r in json.loads(results.read_text()) if r["image_id"] == 10]
        np.testing.assert_allclose(arrays["10"][:, 4], best, atol=1e-6)
    assert main([*command, "--overwrite", "--stage", "rpn"]) == 2
    assert "no region proposal network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "count", "first_stage", "stage"),
    [
        (("object",), None, True, "detections"),
        (None, 1, False, "detections"),
        (("cat", "dog"), 2, True, "rpn"),
        (None, 91, True, "rpn"),
    ],
)
def test_stage_by_default(
    names: tuple[str, ...] | None, count: int | None, first_stage: bool, stage: str
) -> None:
    arguments = {} if count is None else {"num_classes": count}
    model: Any = SimpleNamespace(
        class_names=names,
        config={"name": "x", "arguments": arguments},
        makes_proposals=first_stage,
    )
    assert choose_stage(model) == stage
    assert choose_stage(model, "detections") == "detections"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "boxes.txt"], r".npz or .pkl"),
        (["--out", "boxes.pkl", "--limit", "1"], "--limit"),
        (["--out", "boxes.npz", "--limit", "0"], "--limit"),
        (["--out", "boxes.npz", "--score-threshold", "2"], "--score-threshold"),
        (["--out", "boxes.npz"], "3 classes"),
    ],
)
def test_bad_input_writes_nothing(
    more: list[str],
    message: str,
    checkpoint: Path,
    words: list[str],
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert main(["proposals", str(checkpoint), *words, "--backend", backend, *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(work.iterdir())


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("a.npz", ["--only-classes", "catt"], "Did you mean 'cat'"),
        ("b.npz", [], "none for 20"),
        ("c.pkl", [], "each of the 2 images"),
        ("d.npz", [], "not found"),
        ("x.safetensors", ["--only-classes", "cat"], "--only-classes"),
    ],
)
def test_bad_files_of_proposals_are_named(
    name: str,
    more: list[str],
    message: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    box = np.array([[1, 2, 3, 4]], np.float32)
    np.savez("a.npz", **{"10": box, "20": box})
    np.savez("b.npz", **{"10": box})
    Path("c.pkl").write_bytes(pickle.dumps([box]))
    data = ["--data", str(photos / "annotations.json"), "--images", str(photos)]
    assert main(["eval", name, *data, *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
