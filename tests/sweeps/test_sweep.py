"""Sweeps of a toy model: what is trained, skipped, gone on with, tabulated and refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unidet.runs.sweep.run
from tests.engine import toy
from tests.engine.runs import assert_same_weights
from unidet.backends import available
from unidet.cli.main import main
from unidet.config import dump_config

LR = "optimizer.lr=1e-2,1e-3"


class Bench:
    """Runs sweeps in a folder, with their versions trained in this process."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        toy.register()
        self.folder = folder
        self.trained: list[str] = []
        self.config = folder / "toy.yaml"
        self.write(train={"epochs": 2, "checkpoint_every": 1})
        patch.setattr(unidet.runs.sweep.run, "run_command", self._launch)

    def write(self, **changes: dict[str, Any]) -> None:
        self.config.write_text(dump_config(toy.config(**changes)))

    def _launch(self, words: list[str], *, lock: int) -> str:
        self.trained.append(Path(words[words.index("--work-dir") + 1]).name)
        status = main(words)
        if status == 130:
            raise KeyboardInterrupt
        return "it broke" if status else ""

    def sweep(self, *words: str, work: str = "sweep", backend: str = available()[0]) -> int:
        self.trained.clear()
        fixed = ["--work-dir", str(self.folder / work), "--backend", backend, "--quiet"]
        return main(["sweep", str(self.config), *fixed, *words])

    def versions(self, work: str = "sweep") -> list[dict[str, Any]]:
        return json.loads((self.folder / work / "sweep.json").read_text())["versions"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_versions_and_seeds_are_trained_and_tabulated(
    bench: Bench, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write(train={"epochs": 2, "best_metric": "val_loss"}, evaluation={"losses": True})
    assert bench.sweep("--grid", LR, "--repeat", "2", backend=backend) == 0
    names = [f"lr={lr},seed={seed}" for lr in ("0.01", "0.001") for seed in (5, 6)]
    assert bench.trained == names
    root = bench.folder / "sweep"
    versions = bench.versions()
    assert [v["settings"] for v in versions] == [{"optimizer.lr": 0.01}, {"optimizer.lr": 0.001}]
    for version in versions:
        runs = version["runs"]
        assert [run["seed"] for run in runs] == [5, 6]
        values = [run["best"] for run in runs]
        assert version["best"]["values"] == values
        assert version["best"]["mean"] == pytest.approx(np.mean(values))
        assert version["best"]["std"] == pytest.approx(np.std(values, ddof=1))
        for run in runs:
            log = [json.loads(x) for x in (root / run["name"] / "metrics.jsonl").open()]
            scores = {row["step"]: row["eval"]["val_loss"] for row in log if "eval" in row}
            assert run["best"] == min(scores.values()) == scores[run["step"]]
            assert (run["metric"], run["status"]) == ("val_loss", "finished")
    printed = capsys.readouterr().out
    table = (root / "sweep.md").read_text()
    for text in ("best val_loss", "val_loss_cls", "AP50", "2/2", "seed=6", "localisation", "+-"):
        assert text in printed and text in table
    rows = list(csv.DictReader((root / "sweep.csv").open()))
    assert [row["run"] for row in rows] == names and rows[2]["optimizer.lr"] == "0.001"
    assert (root / "sweep.png").stat().st_size > 10_000
    # One set of scenes serves all.
    assert not list(root.glob("lr=*/data")) and (root / "data" / "val").is_dir()

    weights = root / names[0] / "best.safetensors"
    val = root / "data" / "val"
    words = ["eval", str(weights), "--data", str(val / "annotations.json"), "--images",
             str(val / "images"), "--backend", backend, "--localisation",
             "--json", str(root / "eval.json")]  # fmt: skip
    assert main(words) == 0
    told, known = json.loads((root / "eval.json").read_text()), versions[0]["runs"][0]
    assert told["localisation"]["top"]["centre_px"]["mean"] == pytest.approx(
        known["localisation"]["top"]["centre_px"]["mean"]
    )
    assert told["localisation"]["images"] == 3


def test_what_is_finished_is_skipped(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.sweep("--grid", LR, "--dry-run") == 0
    assert "2 versions, 2 runs" in capsys.readouterr().out and not bench.trained
    assert not (bench.folder / "sweep").exists()
    assert bench.sweep("--grid", LR) == 0
    before = bench.versions()
    assert bench.sweep("--grid", LR) == 0 and bench.trained == []
    assert bench.versions() == before
    # More seeds are added; what was removed is trained again.
    assert bench.sweep("--grid", LR, "--repeat", "2") == 0
    assert bench.trained == ["lr=0.01,seed=6", "lr=0.001,seed=6"]
    (bench.folder / "sweep" / "lr=0.01,seed=5" / "last.safetensors").unlink()
    assert bench.sweep("--grid", LR) == 0 and bench.trained == ["lr=0.01,seed=5"]
    # The tables alone; more of AP is better although the config does not say so.
    log = bench.folder / "sweep" / "lr=0.01,seed=6" / "metrics.jsonl"
    row = {"step": 99, "epoch": 3, "eval": {"AP": 0.5}}
    log.write_text(log.read_text() + json.dumps(row) + "\n")
    for name in ("json", "md", "csv", "png"):
        (bench.folder / "sweep" / f"sweep.{name}").unlink()
    capsys.readouterr()
    assert main(["sweep", "--table", str(bench.folder / "sweep")]) == 0
    assert "best AP" in capsys.readouterr().out
    assert (bench.folder / "sweep" / "sweep.png").is_file() and len(bench.versions()) == 2
    best = bench.versions()[0]["runs"][1]
    assert (best["best"], best["step"]) == (0.5, 99)


def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unidet.engine.trainer import Trainer

    assert bench.sweep("--grid", LR, work="whole") == 0
    original = Trainer._after_step

    def after(self: Trainer) -> None:
        original(self)
        if self.progress.step == 3 and "0.001" in self.folder.root.name:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", after)
        assert bench.sweep("--grid", LR) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [v["runs"][0]["status"] for v in bench.versions()] == ["finished", "interrupted"]
    assert bench.sweep("--grid", LR, "--dry-run") == 0
    assert "lr=0.001,seed=5: goes on, interrupted" in capsys.readouterr().out
    assert bench.sweep("--grid", LR) == 0 and bench.trained == ["lr=0.001,seed=5"]
    run = bench.folder / "sweep" / "lr=0.001,seed=5"
    assert f"at step 3, written on {available()[0]}" in (run / "log.txt").read_text()
    assert_same_weights(run, bench.folder / "whole" / "lr=0.001,seed=5")


def test_a_failed_version_is_told_and_the_others_go_on(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.sweep("--grid", "optimizer.lr=1e30,1e-3") == 1
    assert bench.trained == ["lr=1e+30,seed=5", "lr=0.001,seed=5"]
    out = capsys.readouterr().out
    assert "failed: it broke" in out and "0/1, 1 failed" in out
    failed, fine = (version["runs"][0] for version in bench.versions())
    assert (failed["status"], failed["reason"], fine["status"]) == (
        "failed",
        "it broke",
        "finished",
    )
    assert failed["best"] is None and fine["best"] is not None
    # It is tried again, alone.
    assert bench.sweep("--grid", "optimizer.lr=1e30,1e-3") == 1
    assert bench.trained == ["lr=1e+30,seed=5"]


def test_the_folder_of_another_sweep_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.sweep("--grid", LR, "--set", "train.max_steps=1") == 0
    record = (bench.folder / "sweep" / "record.json").read_text()
    for words, message in (
        (["--grid", LR], "train.max_steps 1, now 0"),
        (["--grid", "optimizer.lr=1e-2", "--set", "train.max_steps=1"], "the grid optimizer.lr="),
        (["--grid", LR, "--set", "train.max_steps=1", "--seed", "9"], "train.seed 5, now 9"),
    ):
        assert bench.sweep(*words) == 2
        assert message in capsys.readouterr().err
    assert (bench.folder / "sweep" / "record.json").read_text() == record
    (bench.folder / "mine").mkdir()
    (bench.folder / "mine" / "notes.txt").write_text("")
    assert bench.sweep("--grid", LR, work="mine") == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--grid"),
        (["--repeat", "0"], "--repeat"),
        (["--grid", "dropout=0.1", "--score-threshold", "2"], "--score-threshold"),
        (["--grid", "dropot=0.1"], "Did you mean 'dropout'"),
        (["--grid", "train.epochs=1,0"], "version epochs=0"),
        (["--grid", LR, "--table", "x"], "--table"),
    ],
)
def test_bad_options_are_told_before_anything_is_written(
    bench: Bench, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.sweep(*words) == 2
    assert message in capsys.readouterr().err
    assert not (bench.folder / "sweep").exists() and not bench.trained


def test_a_table_needs_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--table", str(tmp_path)]) == 2
    assert "Sweep not found" in capsys.readouterr().err
    for text in ("{", "[]", "{}"):
        (tmp_path / "record.json").write_text(text)
        assert main(["sweep", "--table", str(tmp_path)]) == 2
        assert "record.json" in capsys.readouterr().err
