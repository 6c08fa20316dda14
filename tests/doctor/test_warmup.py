"""`unidet warmup` runs a config's model on both backends and reports what was compiled."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks import needs_jittor
from unidet.backends import registry
from unidet.cli.main import main

SMALL = ["--size", "64", "96", "--set", "data.batch_size=2"]


def test_torch_compiles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    if "torch" not in registry.available():
        pytest.skip("torch is not installed")
    assert main(["warmup", "--backend", "torch", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    phases = ["framework and model", "training step 1", "training step 2", "training step 3",
              "saving and resuming", "training step 1 of that", "training step 2 of that",
              "training step, no object", "training step, 1 picture ",
              "training step, 1 picture, no object",
              "prediction, 1 picture ", "prediction, 2 pictures", "done in"]  # fmt: skip
    assert len(lines) == len(phases)
    assert all(line.startswith(start) for line, start in zip(lines, phases))
    assert lines[-1].endswith(" 0 kernels newly compiled")


@pytest.mark.slow
@needs_jittor
def test_a_second_warmup_finds_every_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["warmup", *SMALL]) == 0
    counts = re.findall(r"(\d+) kernels newly compiled", capsys.readouterr().out)
    assert len(counts) == 2
    assert counts[1] == "0"


#: Prints which kernels a command has loaded, whoever compiled them and when.
COMMAND = """
import sys
from unidet.cli.main import main
from unidet.doctor.jittor import loaded_kernels
status = main(sys.argv[1:])
print("KERNELS", *loaded_kernels())
sys.exit(status)
"""
#: Batches of four and then of one, accumulated in pairs and then alone; evaluation likewise.
SHORT = ["data.scenes.train_images=13", "data.scenes.val_images=5", "data.scenes.height=64",
         "data.scenes.width=96", "data.batch_size=4", "data.drop_last=false", "train.epochs=2",
         "train.eval_every=1", "train.clip_grad_norm=1.0", "train.log_every=1"]  # fmt: skip
MORE = "train.epochs=3"
FAMILIES = {
    "retinanet": ["quickstart"],
    "retinanet with more": ["quickstart", "train.ema_decay=0.9", "train.accumulate=2",
                            "evaluation.losses=true", "optimizer.name=sgd",
                            "optimizer.momentum=0.9"],
    "faster_rcnn": ["faster_rcnn_r18_bccd", "data.format=scenes", "data.train=[]", "data.val=[]",
                    "model.arguments.preprocess={resize: none}", "data.augmentations=[]"],
}  # fmt: skip


def kernels(words: list[str], overrides: list[str]) -> set[str]:
    """Names of those that a command loads in a process of its own."""
    sets = [word for key in overrides for word in ("--set", key)]
    line = [sys.executable, "-c", COMMAND, *words, "--backend", "jittor", *sets]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = next(line for line in done.stdout.splitlines() if line.startswith("KERNELS"))
    return {Path(path).name for path in found.split()[1:]}


@pytest.mark.slow
@needs_jittor
@pytest.mark.parametrize("family", FAMILIES)
def test_warmup_leaves_nothing_to_compile(family: str, tmp_path: Path) -> None:
    config, *overrides = FAMILIES[family]
    overrides += SHORT
    work = str(tmp_path / "run")
    before = kernels(["warmup", config], overrides)
    used = kernels(["train", config, "--work-dir", work], overrides)
    assert len(used) > 50
    assert not used - before
    resumed = kernels(["train", config, "--work-dir", work, "--resume"], [*overrides, MORE])
    assert not resumed - before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "8", "64"], "--size"),
        (["quikstart"], "quickstart"),
        (["--backend", "tensorflow"], "tensorflow"),
        (["--set", "train.epochs=none"], "train.epochs"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = registry.available()[0]
    assert main(["warmup", "--backend", backend, *words]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
