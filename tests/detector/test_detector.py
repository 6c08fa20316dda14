"""The detector: from a checkpoint and a photo to detections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unidet
from unidet.checkpoints.native import save_checkpoint
from unidet.detector import Detector
from unidet.errors import UserError
from unidet.visualization import read_image


def test_detects_in_files_arrays_and_lists(backend: str, checkpoint: Path, photos: Path) -> None:
    detector = Detector(checkpoint, backend=backend)
    assert detector.backend == backend
    assert detector.class_names == ("cat", "dog", "bus")
    path = photos / "1.png"
    found = detector(path, score_threshold=0.05)
    assert len(found) > 0
    assert found.class_names == ("cat", "dog", "bus")
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() >= 0.05
    again = detector([read_image(path), photos / "2.png"], score_threshold=0.05)
    assert len(again) == 2
    np.testing.assert_array_equal(again[0].boxes_xyxy, found.boxes_xyxy)
    high = float(np.median(found.scores))
    assert len(detector(path, score_threshold=high)) == (found.scores >= high).sum()


def test_boxes_are_in_pixels_of_the_photo(backend: str, small_model: Any, photos: Path) -> None:
    detector = Detector.from_model(small_model)
    pixels = read_image(photos / "1.png")
    # The network sees the same input, so boxes grow with the photo.
    small = detector(pixels, score_threshold=0.05)
    large = detector(np.repeat(np.repeat(pixels, 2, 0), 2, 1)[:, :, ::1], score_threshold=0.05)
    assert small.boxes_xyxy[:, [0, 2]].max() <= 96
    assert 96 < large.boxes_xyxy[:, [0, 2]].max() <= 192


def test_threshold_edges(backend: str, small_model: Any, photos: Path) -> None:
    detector = Detector.from_model(small_model)
    assert len(detector(photos / "1.png", score_threshold=1.0)) == 0
    with pytest.raises(ValueError, match=r"Expected a number in \[0, 1\]. Received 1.5"):
        detector(photos / "1.png", score_threshold=1.5)
    assert detector([]) == []


def test_bad_images_are_explained(backend: str, small_model: Any, tmp_path: Path) -> None:
    detector = Detector.from_model(small_model)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.jpg"):
        detector(tmp_path / "text.jpg")
    with pytest.raises(UserError, match=r"absent\.jpg"):
        detector(tmp_path / "absent.jpg")
    with pytest.raises(UserError, match="float64 of shape"):
        detector(np.zeros((5, 5, 3)))
    with pytest.raises(TypeError, match="Received int"):
        detector(3)


def test_both_backends_find_the_same(
    both: None, small_model: Any, backend: str, photos: Path, tmp_path: Path
) -> None:
    if backend == "jittor":
        pytest.skip("torch writes the checkpoint, Jittor reads it")
    path = tmp_path / "shared.safetensors"
    save_checkpoint(path, small_model)
    results = [
        Detector(path, backend=name)(photos / "1.png", score_threshold=0.05)
        for name in ("torch", "jittor")
    ]
    assert len(results[0]) > 0
    np.testing.assert_array_equal(results[0].labels, results[1].labels)
    np.testing.assert_allclose(results[0].boxes_xyxy, results[1].boxes_xyxy, atol=1e-2)
    np.testing.assert_allclose(results[0].scores, results[1].scores, atol=1e-5)


def test_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Received 'tpu'"):
        Detector(tmp_path / "absent.safetensors", device="tpu")


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"foreign\.safetensors"):
        Detector(path, backend="torch")


def test_import_loads_no_framework() -> None:
    code = (
        "import sys, unidet; unidet.Detections; "
        "print([m for m in ('torch', 'jittor', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_exports_resolve_and_others_do_not() -> None:
    for name in unidet.__all__:
        assert getattr(unidet, name) is not None
        assert name in dir(unidet)
    with pytest.raises(AttributeError, match="no attribute 'Detecter'"):
        _ = unidet.Detecter
