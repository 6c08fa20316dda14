"""What commit bdea3a9 wrote loads, detects as it did then, and goes on; see ``write.py``.

A model argument that is renamed needs a migration: these files hold the earlier name.
"""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unidet import Detector
from unidet.backends import nn
from unidet.checkpoints.native import load_checkpoint
from unidet.config import load_config
from unidet.engine import train
from unidet.models import create_from
from unidet.models.factory import check_arguments

HERE = Path(__file__).parent
NAMES = sorted(path.name.partition(".")[0] for path in HERE.glob("*.safetensors.xz"))
RECORDED = np.load(HERE / "detections.npz")
DETECTING = [name for name in NAMES if f"{name} boxes" in RECORDED]


#: Every argument that a model took, with its default, of one model for each set of arguments.
ARGUMENTS = json.loads((HERE / "arguments.json").read_text())


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_old_argument_is_known(name: str) -> None:
    check_arguments(name, ARGUMENTS[name])


@pytest.fixture
def checkpoint(name: str, tmp_path: Path) -> Iterator[Path]:
    """The file as it was written, some 50 MB."""
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(lzma.decompress((HERE / f"{path.name}.xz").read_bytes()))
    yield path
    path.unlink()


def test_every_kind_of_detector_is_here() -> None:
    assert len(NAMES) == 8 and len(DETECTING) == 5


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DETECTING)))
def test_an_old_checkpoint_loads(backend: str, name: str, checkpoint: Path) -> None:
    content = load_checkpoint(checkpoint)
    model = create_from(name, content.model["arguments"], backend=backend, seed=None)
    nn.load_arrays(model, content.arrays)
    assert content.class_names == model.class_names == ("a", "b", "c")
    assert content.source == {"commit": "bdea3a9"}
    # What was given is kept.
    given = content.model["arguments"]
    assert {key: model.config["arguments"][key] for key in given} == given


@pytest.mark.parametrize("name", DETECTING)
def test_an_old_checkpoint_detects_as_it_did(backend: str, name: str, checkpoint: Path) -> None:
    detector = Detector(checkpoint, backend=backend)
    found = detector(RECORDED["photo"], score_threshold=0)[:20]
    np.testing.assert_array_equal(found.labels, RECORDED[f"{name} labels"])
    np.testing.assert_allclose(found.scores, RECORDED[f"{name} scores"], rtol=1e-4)
    np.testing.assert_allclose(found.boxes_xyxy, RECORDED[f"{name} boxes"], atol=1e-2)


@pytest.mark.parametrize("name", ["retinanet_r18_fpn"])
def test_an_old_run_goes_on(backend: str, name: str, checkpoint: Path, tmp_path: Path,
                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    with tarfile.open(HERE / "run.tar.xz") as archive:
        archive.extractall(tmp_path)
    # The config names its starting weights relative to where it ran.
    monkeypatch.chdir(tmp_path)
    work = Path("run")
    before = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
    config = load_config(work / "config.yaml")
    result = train(config, backend=backend, work_dir=work, resume=True, quiet=True)
    rows = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
    assert result.steps == 8 and rows[: len(before)] == before
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 9))
    # Recorded with the rest of the run by bdea3a9, which went on without a break.
    np.testing.assert_allclose(
        [row["loss"] for row in rows if "loss" in row], RECORDED["losses"], rtol=2e-3
    )
    assert load_checkpoint(work / "last.safetensors").source["step"] == 8
