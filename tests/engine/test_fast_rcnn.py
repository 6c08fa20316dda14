"""Fast R-CNN from the command line: its proposals come from a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from runs import losses

from unidet.backends import available
from unidet.cli.main import main
from unidet.data import generate_scenes, load_coco

CONFIG = {
    "model": {
        "name": "fast_rcnn_r18_fpn",
        "arguments": {
            "fpn_channels": 16,
            "head_channels": 32,
            "roi_batch": 16,
            "score_threshold": 0.01,
            "preprocess": {"resize": "fixed", "size": [64, 64]},
        },
    },
    "data": {
        "train": {"annotations": "annotations.json", "images": "images", "proposals": "boxes.npz"},
        "val": {"annotations": "annotations.json", "images": "images", "proposals": "boxes.json"},
        "augmentations": [{"name": "horizontal_flip"}, {"name": "random_zoom"}],
    },
    "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
    "train": {"epochs": 3, "log_every": 1, "eval_every": 3},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with two files of proposals: the objects, moved a little, and boxes anywhere."""
    root = tmp_path_factory.mktemp("given") / "scenes"
    generate_scenes(root, 6, size=(64, 64), seed=1)
    dataset = load_coco(root / "annotations.json", root / "images")
    rng = np.random.default_rng(0)
    given = {}
    for record, entry in zip(dataset.images, dataset.annotations):
        near = entry.boxes_xyxy + rng.uniform(-2, 2, entry.boxes_xyxy.shape)
        corner, side = rng.uniform(0, 44, (12, 2)), rng.uniform(8, 30, (12, 2))
        given[str(record.id)] = np.concatenate([near, np.hstack([corner, corner + side])])
    np.savez(root / "boxes.npz", **given)
    (root / "boxes.json").write_text(json.dumps({k: v.tolist() for k, v in given.items()}))
    return root


@pytest.fixture
def words(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("fast.yaml").write_text(json.dumps(CONFIG))  # JSON is YAML
    return ["fast.yaml", "--set", f"data.root={root}"]


def test_it_trains_and_is_evaluated(
    backend: str, words: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Path("run")
    assert main(["train", *words, "--backend", backend, "--work-dir", str(work)]) == 0
    out = capsys.readouterr().out
    assert "step 9/9" in out and "evaluation at step 9" in out
    found = losses(work)
    assert len(found) == 9 and np.mean(found[-3:]) < np.mean(found[:3])
    data = ["--data", str(root / "annotations.json"), "--images", str(root / "images")]
    last = ["eval", str(work / "last.safetensors"), "--backend", backend, *data]
    assert main([*last, "--proposals", str(root / "boxes.json"), "--json", "scores.json"]) == 0
    scores = json.loads(Path("scores.json").read_text())["metrics"]
    best = json.loads((work / "evaluation.json").read_text())["metrics"]
    assert scores["AP"] == pytest.approx(best["AP"], abs=1e-6)
    capsys.readouterr()
    assert main(last) == 2
    assert "--proposals" in capsys.readouterr().err
    assert main(["warmup", *words, "--backend", backend, "--size", "64", "64"]) == 0


def test_no_proposals_are_refused_before_the_run(
    words: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", *words, "--backend", available()[0], "--work-dir", "run", "--set"]
    for part in ("train", "val"):
        source = {key: value for key, value in CONFIG["data"][part].items() if key != "proposals"}
        assert main([*train, f"data.{part}={json.dumps(source)}"]) == 2
        error = capsys.readouterr().err
        assert f"`data.{part}.proposals`" in error and "fast_rcnn_r18_fpn" in error
        assert error.count("\n") == 1 and not Path("run").exists()
    source = {**CONFIG["data"]["train"], "proposals": "nowhere.json"}
    assert main([*train, f"data.train={json.dumps(source)}"]) == 2
    assert "nowhere.json" in capsys.readouterr().err
