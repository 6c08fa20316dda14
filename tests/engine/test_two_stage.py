"""A small Faster R-CNN through everything that a run touches, on generated scenes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from runs import assert_same_weights, interrupt, losses, rows

from unidet.checkpoints.native import load_checkpoint
from unidet.cli.main import main
from unidet.config import Config, resolve
from unidet.detector import Detector
from unidet.engine import train
from unidet.engine.lr_find import range_test
from unidet.errors import RunFailedError, UserError

ARGUMENTS: dict[str, Any] = {
    "fpn_channels": 32,
    "head_channels": 64,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "rpn_batch": 32,
    # Room for all proposals: where two scores are equal up to rounding, their order is chance, and
    # draws go by order. Anchors, which have a fixed order, are drawn.
    "roi_batch": 128,
    # Statistics of a dozen values in fresh weights make rounding grow a hundredfold each step.
    "norm_eval": True,
    "rpn_pre_nms_train": 100,
    "rpn_post_nms_train": 60,
    "rpn_pre_nms_test": 60,
    "rpn_post_nms_test": 30,
    "score_threshold": 0.01,
    "preprocess": {"resize": "fixed", "size": [64, 96]},
}
STEPS = 10
PARTS = {"loss/rpn_cls", "loss/rpn_box", "loss/cls", "loss/box"}


def config(data: Path, **changes: dict[str, Any]) -> Config:
    """Ten steps of 2 images in epochs of 4."""
    values = {
        "model": {"name": "faster_rcnn_r18_fpn", "arguments": ARGUMENTS},
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"kind": "constant"},
        "train": {"max_steps": STEPS, "checkpoint_every": 1, "eval_every": 0},
    }
    merged = {**values, **changes}
    for name in ("train", "optimizer"):
        merged[name] = {**values[name], **changes.get(name, {})}
    return toy.config(data, **merged)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the whole run on a backend, trained once."""
    done: dict[str, Path] = {}

    def folder(backend: str) -> Path:
        if backend not in done:
            work = tmp_path_factory.mktemp("two-stage") / backend
            train(config(data), backend=backend, work_dir=work, quiet=True)
            done[backend] = work
        return done[backend]

    return folder


def test_it_trains_and_is_evaluated(backend: str, run: Callable[[str], Path]) -> None:
    work = run(backend)
    steps = [row for row in rows(work) if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    for row in steps:
        assert set(row) >= PARTS
        assert row["loss"] == pytest.approx(sum(row[part] for part in PARTS), rel=1e-5)
    assert np.mean(losses(work)[-3:]) < np.mean(losses(work)[:3])
    found = [row["eval"] for row in rows(work) if "eval" in row]
    assert len(found) == 1 and 0 <= found[0]["AP"] <= 1
    assert (work / "best.safetensors").stat().st_size > 0
    for entry in json.loads((work / "detections.json").read_text()):
        assert 0.01 < entry["score"] <= 1 and np.isfinite(entry["bbox"]).all()


def test_samples_make_resuming_exact(
    backend: str, run: Callable[[str], Path], data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    chosen = config(data)
    interrupt(chosen, 5, monkeypatch, backend=backend, work_dir=tmp_path / "run", quiet=True)
    train(chosen, backend=backend, work_dir=tmp_path / "run", resume=True, quiet=True)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(run(backend)), rtol=1e-6)
    assert_same_weights(tmp_path / "run", run(backend))


def test_both_frameworks_train_alike(both: None, run: Callable[[str], Path]) -> None:
    torch, jittor = (np.array(losses(run(name))) for name in ("torch", "jittor"))
    apart = np.abs(torch - jittor) / torch
    print(f"\nloss {torch[0]:.3f} to {torch[-1]:.3f}, {apart.max():.1e} apart over {STEPS} steps")
    assert np.ptp(torch) > 0.1
    assert apart.max() <= 1e-3


def test_a_detector_predicts(backend: str, run: Callable[[str], Path], data: Path) -> None:
    photo = next((data / "val" / "images").iterdir())
    detector = Detector(run(backend) / "last.safetensors", backend=backend)
    found = detector(photo, score_threshold=0.01)
    assert len(found) and found.class_names == detector.class_names
    assert found.boxes_xyxy.min() >= 0 and found.boxes_xyxy.max() <= 64
    # The same file on the other framework, or again on the only one.
    from unidet.backends import available

    other = Detector(run(backend) / "last.safetensors", backend=available()[-1])
    again = other(photo, score_threshold=0.01)
    assert len(again) == len(found)
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-4)


def test_parity_passes(
    both: None, run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.parity.json"
    status = main(["parity", str(run("torch") / "last.safetensors"), "--json", str(out)])
    assert status == 0, capsys.readouterr().out
    certificate = json.loads(out.read_text())
    assert {loss["name"] for loss in certificate["losses"]} == {
        f"loss_{part.removeprefix('loss/')}" for part in PARTS
    }
    assert all(loss["reference"] > 0 for loss in certificate["losses"])
    assert sum(entry["matched"] for entry in certificate["detections"]) > 5
    assert any(layer["name"] == "head.cls_out" for layer in certificate["layers"])


def test_the_range_test(backend: str, data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"lowest": 1e-5, "highest": 1e-3, "steps": 10}
    found = [
        range_test(config(data), backend=backend, work_dir=tmp_path, **options) for _ in range(2)
    ]
    assert len(found[0].losses) == 10 and np.isfinite(found[0].losses).all()
    np.testing.assert_allclose(found[1].losses, found[0].losses, rtol=1e-6)


def test_warmup(
    backend: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(resolve(config(data))))  # JSON is YAML
    assert main(["warmup", str(path), "--backend", backend, "--size", "64", "96"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("prediction, 2 pictures") for line in lines)
    assert lines[-1].startswith("done in") and "kernels newly compiled" in lines[-1]


def test_a_run_that_overflows_ends_in_one_message(backend: str, data: Path, tmp_path: Path) -> None:
    chosen = config(data, optimizer={"lr": 1e30}, train={"clip_grad_norm": None})
    with pytest.raises(RunFailedError, match=r"Stopped at epoch 1, step \d: the loss is not fin"):
        train(chosen, backend=backend, work_dir=tmp_path / "run", quiet=True)
    before = load_checkpoint(tmp_path / "run/last.safetensors")
    assert before.source["step"] >= 1


def test_images_without_objects(backend: str, data: Path, tmp_path: Path) -> None:
    """Some batches hold no object at all; a data set without any is refused."""
    chosen = config(data, train={"max_steps": 4, "seed": 3})
    from unidet.engine.trainer import Trainer

    seen: list[int] = []
    original = Trainer._train_step

    def empty(self: Trainer, batches: list[Any]) -> None:
        for batch in batches:
            if self.progress.step % 2:
                batch.targets = [t.__class__(t.boxes_xyxy[:0], t.labels[:0]) for t in batch.targets]
            seen.append(sum(map(len, batch.targets)))
        original(self, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", empty)
        train(chosen, backend=backend, work_dir=tmp_path / "run", quiet=True)
    assert seen[1] == seen[3] == 0 and seen[0] > 0
    found = [row for row in rows(tmp_path / "run") if "loss" in row]
    assert [row["loss/box"] + row["loss/rpn_box"] == 0 for row in found] == [False, True] * 2
    assert np.isfinite([row["loss"] for row in found]).all()


def test_more_classes_in_the_data_than_in_the_head(data: Path, tmp_path: Path) -> None:
    from unidet.backends import available

    model = {"name": "faster_rcnn_r18_fpn", "arguments": {**ARGUMENTS, "num_classes": 3}}
    with pytest.raises(UserError, match=r"`model.arguments.num_classes`.*6 classes.*3"):
        train(config(data, model=model), backend=available()[0], work_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
