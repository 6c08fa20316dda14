"""`unidet warmup` runs a config's model on both backends and reports what was compiled."""

from __future__ import annotations

import re

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
    phases = ["framework and model", "training step 1", "training step 2",
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
