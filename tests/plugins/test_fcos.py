"""The door for other people's models, by the example that comes with it, installed as a package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unidet.backends import available
from unidet.weights_convert import read_container, write_torch

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/fcos"
#: Parts of unidet that the example may import: what docs/plugins.md calls public.
PUBLIC = (
    *("unidet", "unidet.backends", "unidet.losses", "unidet.models", "unidet.structures"),
    *("unidet.data.preprocess", "unidet.weights_convert.families"),
)
SMALL = ["model.arguments.channels=16", "model.arguments.groups=4"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it, its entry point included."""
    folder = tmp_path_factory.mktemp("fcos")
    source, target = folder / "source", folder / "site"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--target", str(target), str(source)),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs a command of unidet in an empty folder, with the package installed."""

    def command(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            [sys.executable, "-m", "unidet", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return command


def train(run: Run, backend: str, steps: int, *more: str) -> None:
    overrides = [
        *SMALL,
        f"train.max_steps={steps}",
        "data.scenes.train_images=16",
        "data.scenes.val_images=4",
        "data.batch_size=4",
        "train.log_every=1",
    ]
    words = [word for item in overrides for word in ("--set", item)]
    config = str(EXAMPLE / "fcos_scenes.yaml")
    run("train", config, "--backend", backend, "--work-dir", "run", *words, *more)


def test_it_trains_resumes_evaluates_and_detects(run: Run, backend: str, tmp_path: Path) -> None:
    train(run, backend, 4)
    run("train", "--resume", "run", "--backend", backend, "--set", "train.max_steps=6")
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert sorted(losses) == [1, 2, 3, 4, 5, 6] and all(np.isfinite(list(losses.values())))
    assert losses[6] < losses[1]
    val = tmp_path / "run/data/val"
    words = ["--data", str(val / "annotations.json"), "--images", str(val / "images")]
    done = run("eval", "run/last.safetensors", *words, "--backend", backend)
    assert "AP" in done.stdout
    photo = next((val / "images").iterdir())
    run("predict", "run/last.safetensors", str(photo), "--out", "drawn", "--backend", backend)
    assert list((tmp_path / "drawn").iterdir())


def test_both_frameworks_agree(run: Run, both: None, tmp_path: Path) -> None:
    train(run, "torch", 2)
    done = run("parity", "run/last.safetensors", "--json", "certificate.json")
    assert "PASS" in done.stdout
    assert json.loads((tmp_path / "certificate.json").read_text())["verdict"] == "PASS"
    run("convert", "pt2jt", "run/last.safetensors", "jittor.pkl")


def test_its_published_files_come_in_and_go_out(run: Run, installed: Path, tmp_path: Path) -> None:
    backend = available()[0]
    program = (
        "import unidet, numpy as np; from unidet.backends import nn;"
        "from unidet_fcos import FAMILY;"
        f"m = unidet.create_model('fcos_r18_fpn_mmdet', num_classes=3, backend={backend!r});"
        "state, report = FAMILY.from_native(nn.state_arrays(m));"
        "np.savez('published.npz', **state)"
    )
    path = os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    state = dict(np.load(tmp_path / "published.npz"))
    assert "bbox_head.reg_convs.3.gn.weight" in state and "bbox_head.scales.4.scale" in state
    write_torch(tmp_path / "fcos.pth", {"state_dict": state})
    done = run("convert", "import", "fcos.pth", "native.safetensors")
    assert "mmdet_fcos" in done.stdout or "fcos_r18_fpn_mmdet" in done.stdout
    run("convert", "export", "native.safetensors", "again.pth", "--to", "mmdet_fcos")
    again, _ = read_container(tmp_path / "again.pth")
    assert set(again["state_dict"]) >= set(state)
    for name, value in state.items():
        assert np.array_equal(again["state_dict"][name], value), name


def test_the_example_is_short_and_imports_public_names_alone() -> None:
    files = sorted((EXAMPLE / "unidet_fcos").glob("*.py"))
    assert sum(len(path.read_text().splitlines()) for path in files) < 300
    for path in files:
        for module in re.findall(r"^(?:from|import) (unidet[\w.]*)", path.read_text(), re.M):
            known = any(module == name or module.startswith(f"{name}.") for name in PUBLIC)
            assert known or module.startswith("unidet_fcos"), (path.name, module)
            assert "._" not in module
