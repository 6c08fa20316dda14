"""UniDetector's whole recipe, as small as it gets, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.cli.main import main
from unidet.config import shipped
from unidet.data import load_coco
from unidet.data.proposals import read_proposals
from unidet.runs.recipe.config import load_recipe
from unidet.runs.recipe.unidetector import unidetector_steps

NAME = "recipe_unidetector_scenes"
STAGE = ["train.max_steps=2", "data.batch_size=2", "data.cache=false"]
SMALL = {
    "scenes.0.count": "5",
    "scenes.1.count": "4",
    "scenes.2.count": "3",
    "stage1.set": f"[{', '.join(STAGE)}]",
    "stage2.set": f"[{', '.join(STAGE)}]",
    "scoring.max_proposals": "5",
}


def command(work: Path, backend: str, *more: str, **changes: str) -> list[str]:
    settings = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    words = [f"--set={key}={value}" for key, value in settings.items()]
    return [
        "recipe",
        "unidetector",
        NAME,
        "--work-dir",
        str(work),
        "--backend",
        backend,
        *words,
        *more,
    ]


def steps_of(text: str) -> dict[str, str]:
    """What a dry run says of each step."""
    return dict(line.split(maxsplit=1) for line in text.splitlines())


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_whole_recipe(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "w"
    assert main(command(work, backend)) == 0
    shown = capsys.readouterr().out
    assert "AR100 unseen" in shown and "calibrated" in shown.splitlines()[-1]
    test = load_coco(work / "data/all/annotations.json", work / "data/all/images")
    boxes = read_proposals(work / "proposals/test.npz", test)
    assert len(boxes) == 3 and all(rows.shape[1] == 5 and len(rows) for rows in boxes)
    prior = read(work / "prior.json")
    raw = read(work / "raw.json")
    assert prior["class_names"] == list(test.class_names) and len(prior["class_names"]) == 24
    counts = np.bincount([r["category_id"] for r in raw], minlength=25)[1:]
    assert prior["detections"] == counts.tolist() and sum(prior["detections"]) == len(raw) > 0
    calibrated = read(work / "calibrated.json")
    assert [r["score"] for r in calibrated] != [r["score"] for r in raw]
    report = read(work / "report.json")
    assert report["classes"] == {"all": 24, "seen": len(seen(work))}
    assert set(report["results"]) == {"raw", "calibrated"} and report["backend"] == backend

    # Nothing is left to do; another gamma concerns the last two steps alone.
    assert main(command(work, backend, "--dry-run")) == 0
    assert set(steps_of(capsys.readouterr().out).values()) == {"done"}
    assert main(command(work, backend, "--dry-run", scoring__gamma="0.1")) == 0
    found = steps_of(capsys.readouterr().out)
    assert [name for name, text in found.items() if text != "done"] == ["calibrated", "table"]
    assert main(command(work, backend, "--from", "raw", scoring__gamma="0")) == 0
    assert "raw: done already" in capsys.readouterr().out
    # All classes weigh alike: as without calibration.
    for one, other in zip(read(work / "calibrated.json"), raw, strict=True):
        assert one["category_id"] == other["category_id"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-6)

    (work / "proposals" / "test.npz").write_bytes(b"damaged")
    assert main(command(work, backend, "--dry-run", scoring__gamma="0")) == 0
    found = steps_of(capsys.readouterr().out)
    assert found["test_proposals"] == "runs: proposals/test.npz is damaged"
    assert found["stage2"] == "done" and found["raw"] == "runs: test_proposals runs"
    assert main(["recipe", "table", str(work), str(work)]) == 0
    assert capsys.readouterr().out.count(f"raw         {backend}") == 2


def seen(work: Path) -> set[str]:
    """Classes of which the training pictures hold objects."""
    names: set[str] = set()
    for part in ("warm", "cold"):
        content = read(work / "data" / part / "annotations.json")
        by_id = {c["id"]: c["name"] for c in content["categories"]}
        names |= {by_id[a["category_id"]] for a in content["annotations"]}
    return names


def test_an_interrupted_training_goes_on(
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from unidet.engine.trainer import Trainer

    work = tmp_path / "w"
    more = {
        "stage1__set": "[train.max_steps=3, train.checkpoint_every=1, train.log_every=1,"
        " data.batch_size=2]"
    }
    finished = Trainer.run

    def stop(trainer: Any) -> None:
        original = trainer.stepper.step

        def step(*args: Any, **options: Any) -> Any:
            if trainer.progress.step == 2:
                raise KeyboardInterrupt
            return original(*args, **options)

        trainer.stepper.step = step
        finished(trainer)

    monkeypatch.setattr(Trainer, "run", stop)
    assert main(command(work, backend, "--only", "data", "--only", "stage1", **more)) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert main(command(work, backend, "--only", "stage1", **more)) == 0
    shown = capsys.readouterr().out
    assert "stage1: train unidetector_cln_r18_fpn (interrupted)" in shown
    assert "at step 2" in shown
    rows = [json.loads(line) for line in (work / "stage1/metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring__gama": "1"}, "Did you mean 'gamma'"),
        ({"scoring__beta": "2"}, "scoring.beta"),
        ({"scoring__recall": "[10, 5]"}, "rising"),
        ({"scenes__1__name": "warm"}, "different names"),
        ({"scenes__1__name": "../x"}, "different names"),
        ({"stage1__config": "nope"}, "nope"),
        ({"stage2__config": "quickstart"}, "stage2.config"),
        ({"stage2__set": "[train.epoch=1]"}, "Did you mean"),
        ({"test__annotations": "none.json"}, "test.annotations"),
        ({"test__frequencies": "all_cat_info.json"}, "test.frequencies"),
        ({"train": "[]"}, "train"),
        ({"root": "elsewhere", "scenes": "[]"}, "train.0.annotations"),
    ],
)
def test_bad_recipes_write_nothing(
    changes: dict[str, str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unidet.backends.resolve", lambda name=None: "torch")
    words = [f"--set={key.replace('__', '.')}={value}" for key, value in changes.items()]
    work = tmp_path / "w"
    assert main(["recipe", "unidetector", NAME, "--work-dir", str(work), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not work.exists()


@pytest.mark.parametrize("name", shipped(recipes=True))
def test_shipped_recipes_are_whole(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    for chosen in (*recipe.train, recipe.test):
        for path in (chosen.annotations, chosen.embeddings, chosen.frequencies):
            if path:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text("{}")
        (tmp_path / chosen.images).mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(name, [f"root={tmp_path}"])
    steps = unidetector_steps(recipe, tmp_path / "w", backend="torch")
    assert [step.name for step in steps][-7:] == [
        "stage1", "proposals", "test_proposals", "stage2", "raw", "calibrated", "table",
    ]  # fmt: skip
    assert not (tmp_path / "w").exists()


def test_reports_have_to_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "table", str(tmp_path)]) == 2
    assert "Report not found" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("[]")
    assert main(["recipe", "table", str(tmp_path)]) == 2
    assert "Invalid report" in capsys.readouterr().err
