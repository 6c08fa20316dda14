"""`unidet train` and `unidet lr-find` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from unidet.cli.main import main

#: The smallest RetinaNet on a handful of tiny scenes.
TINY = """
model:
  name: retinanet_r18_fpn
  arguments:
    fpn_channels: 8
    head_depth: 1
    head_groups: 2
    preprocess: {resize: none}
data:
  format: scenes
  scenes: {train_images: 4, val_images: 2, height: 64, width: 64}
  batch_size: 2
optimizer: {lr: 1e-3}
train: {epochs: 1, clip_grad_norm: 1.0, log_every: 1}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return "tiny.yaml"


def test_train_resume_and_refuse(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", tiny, "--backend", "torch"]
    assert main(words) == 0
    work = Path("runs/tiny-torch")
    out = capsys.readouterr().out
    assert "step 2/2" in out and "evaluation at step 2" in out and f"saved in {work}" in out
    assert (work / "last.safetensors").exists() and (work / "loss_curve.png").exists()

    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err

    further = ["train", "--work-dir", str(work), "--resume", "--backend", "torch"]
    assert main([*further, "--set", "train.epochs=2"]) == 0
    out = capsys.readouterr().out
    assert "at step 2, written on torch" in out and "train.epochs: 1 -> 2" in out
    assert "step 4/4" in out

    assert main([*further, "--set", "model.arguments.fpn_channels=16"]) == 2
    assert "`model.arguments.fpn_channels`" in capsys.readouterr().err

    assert main([*words, "--overwrite", "--quiet", "--set", "train.max_steps=1"]) == 0
    assert capsys.readouterr().out == ""


def test_bad_values_of_parts_are_explained(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    for change, words in {
        "model.name=retinanet_r81_fpn": ["retinanet_r81_fpn", "Did you mean"],
        "model.arguments.fpn_chanels=8": ["fpn_chanels", "Did you mean 'fpn_channels'"],
        "model.arguments.num_classes=1": ["num_classes", "at least"],
        "data.augmentations=[{name: flip}]": ["flip", "horizontal_flip"],
        "optimizer.groups=[{match: [nothing.]}]": ["nothing."],
        "train.freeze=[bakbone.]": ["train.freeze", "bakbone."],
        "train.weights=none.pth": ["none.pth"],
    }.items():
        words_given = ["train", tiny, "--backend", "torch", "--work-dir", "w", "--set", change]
        assert main(words_given) == 2, change
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        for word in words:
            assert word in err


def test_a_missing_gpu_is_bad_input(
    backend: str, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    assert main(["train", tiny, "--backend", backend, "--device", "cuda"]) == 2
    assert "Invalid value for `device`. Expected 'cpu'" in capsys.readouterr().err


def test_range_test(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lr-find", tiny, "--backend", "torch", "--steps", "12", "--out", "pictures/lr.png"]
    assert main([*words, "--lowest", "1e-6", "--highest", "1e-2"]) == 0
    out = capsys.readouterr().out
    assert "smoothed" in out and len(out.splitlines()) >= 13
    assert Path("pictures/lr.png").stat().st_size > 1000
    assert main([*words, "--lowest", "1"]) == 2
    assert main([*words, "--steps", "3"]) == 2
