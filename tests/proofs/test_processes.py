"""Several processes, detectors and clocks at once: right, or one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detector.vocabularies import E2E, build, vectors
from unidet.checkpoints.native import save_checkpoint
from unidet.data import generate_scenes
from unidet.detector import Detector
from unidet.engine import train
from unidet.engine.run_lock import locked

_PREDICT = """
import sys
import numpy as np
from unidet.detector import Detector
found = Detector(sys.argv[1], backend=sys.argv[2])(sys.argv[3], score_threshold=0.0)
np.savez(sys.argv[4], boxes=found.boxes_xyxy, scores=found.scores, labels=found.labels)
"""

_SPAWN = """
import multiprocessing, sys
import numpy as np
from unidet.data import Loader, load_coco
from unidet.data.preprocess import Preprocess
from unidet.detector import Detector
from unidet.errors import UserError

def scores(photo):
    found = Detector(sys.argv[1], backend=sys.argv[2])(photo, score_threshold=0.0)
    return found.scores.tolist()

def main():
    multiprocessing.set_start_method("spawn")
    folder = sys.argv[3]
    photo = folder + "/images/000001.jpg"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(scores, [photo, photo])
    assert one == two and one, (one, two)
    np.testing.assert_allclose(one, scores(photo), atol=1e-5)
    data = load_coco(folder + "/annotations.json", folder + "/images")
    data.images[0].path.write_bytes(data.images[0].path.read_bytes()[:600])
    small = Preprocess(resize="fixed", size=(64, 96))
    kept = Loader(data, small, 1, num_workers=2, on_bad="skip")
    assert [i for batch in kept for i in batch.image_ids] == [r.id for r in data.images[1:]]
    try:
        list(Loader(data, small, 1, num_workers=2))
    except UserError as error:
        assert "000000.jpg" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError("a damaged image passed")
    print("right")

if __name__ == "__main__":
    main()
"""


def _fields(found: Any) -> tuple[np.ndarray, ...]:
    return found.boxes_xyxy, found.scores, found.labels


@pytest.fixture
def checkpoint(backend: str, tmp_path: Path) -> Path:
    path = tmp_path / "e2e.safetensors"
    save_checkpoint(path, build("unidetector_e2e_r50_c4", backend, ("disc", "square"), **E2E))
    generate_scenes(tmp_path / "d", 3, size=(64, 96), seed=1)
    return path


def test_detectors_of_two_vocabularies(backend: str, checkpoint: Path, tmp_path: Path) -> None:
    """Alternating, each finds what it finds alone."""
    photos = sorted((tmp_path / "d" / "images").iterdir())
    vocabularies = {("cat", "dog"): vectors(2, seed=8), ("bus", "car", "van"): vectors(3, seed=9)}

    def detector(names: tuple[str, ...]) -> Detector:
        made = Detector(checkpoint, backend=backend)
        made.set_vocabulary(names, vocabularies[names])
        return made

    alone = {}
    for names in vocabularies:
        one = detector(names)
        alone[names] = [_fields(one(photo, score_threshold=0.0)) for photo in photos]
    together = {names: detector(names) for names in vocabularies}
    for index, photo in enumerate(photos):
        for names, one in together.items():
            found = one(photo, score_threshold=0.0)
            assert found.class_names == names and len(found)
            for got, expected in zip(_fields(found), alone[names][index], strict=True):
                np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.slow_on("jittor")
def test_spawned_processes(backend: str, checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(_SPAWN)
    done = subprocess.run(
        [sys.executable, str(script), str(checkpoint), backend, str(tmp_path / "d")],
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("right\n"), done.stderr


@pytest.mark.slow
def test_two_processes_compile_the_same_kernels(tmp_path: Path) -> None:
    """Both start with an empty cache, and find the same as a third that finds it full."""
    pytest.importorskip("jittor")
    checkpoint = tmp_path / "e2e.safetensors"
    save_checkpoint(checkpoint, build("unidetector_e2e_r50_c4", "jittor", ("a", "b"), **E2E))
    generate_scenes(tmp_path / "d", 1, size=(64, 96), seed=1)
    environment = {**os.environ, "JITTOR_HOME": str(tmp_path / "home"), "cache_name": "two"}
    (tmp_path / "home").mkdir()

    def start(name: str) -> subprocess.Popen[str]:
        photo = tmp_path / "d" / "images" / "000000.jpg"
        words = [str(checkpoint), "jittor", str(photo), str(tmp_path / name)]
        return subprocess.Popen(
            [sys.executable, "-c", _PREDICT, *words], env=environment, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    pair = [start("one.npz"), start("two.npz")]
    for process in (*pair, start("three.npz")):
        _, errors = process.communicate(timeout=1000)
        assert process.returncode == 0, errors
    files = [np.load(tmp_path / f"{name}.npz") for name in ("one", "two", "three")]
    assert len(files[0]["scores"])
    for key in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(files[0][key], files[2][key])
        np.testing.assert_array_equal(files[1][key], files[2][key])


def test_the_clock_is_set_back(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on an hour before it began, with files from the future."""
    from tests.engine import runs, toy

    toy.register()
    config = toy.config(tmp_path / "scenes", train={"checkpoint_every": 1})
    whole, work = tmp_path / "whole", tmp_path / "work"
    train(config, backend=backend, work_dir=whole, quiet=True)
    runs.interrupt(config, 6, monkeypatch, backend=backend, work_dir=work, quiet=True)
    later, now = time.time() + 3600, time.time
    for path in work.rglob("*"):
        os.utime(path, (later, later), follow_symlinks=False)
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    train(config, backend=backend, work_dir=work, resume=True, quiet=True)
    runs.assert_same_weights(work, whole)
    np.testing.assert_allclose(runs.losses(work), runs.losses(whole), rtol=1e-6)
    with locked(work):
        pass
