"""Fuzzing of certificates and recordings: read, or refused in one line."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated, mutated_bytes
from unidet.certificate.certificate import Certificate, Thresholds, read_certificate
from unidet.certificate.recording import Recording, write_recording

CONTENT = Certificate(
    model={"name": "toy"},
    reference="torch",
    candidate="jittor",
    versions={"unidet": "0"},
    inputs={"shape": [1, 3, 8, 8]},
    thresholds=Thresholds(),
).to_dict()
META: dict[str, Any] = {
    "backend": "torch", "model": {"name": "toy"}, "weights": {"a": "b"}, "versions": {},
    "gradients": True, "gradient_norms": {"a": 1.0}, "batch": {"sizes": [[8, 8]]},
}  # fmt: skip


def _recording() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        with write_recording(path, META) as sink:
            sink("layer", "a", np.arange(6, dtype=np.float32))
            sink("output", "b", np.ones((2, 3), np.float32))
        return path.read_bytes()


RECORDING = _recording()


@fuzz(mutated(CONTENT, changes=1))
def test_certificates(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parity.json"
    path.write_text(json.dumps(case))
    with bounded():
        read_certificate(path)


@fuzz(mutated_bytes(json.dumps(CONTENT).encode()))
def test_bytes_of_certificates(case: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parity.json"
    path.write_bytes(case)
    with bounded():
        read_certificate(path)


def _read(path: Path) -> None:
    with Recording(path) as recording:
        for kind in ("layer", "output"):
            for name in recording.names(kind):
                recording.get(kind, name)


@fuzz(mutated_bytes(RECORDING))
def test_bytes_of_recordings(case: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(case)
    with bounded():
        _read(path)


FACTS = {"format_version": 1, "order": [["layer", "a"], ["output", "b"]], **META}


@fuzz(mutated(FACTS, changes=1))
def test_facts_of_recordings(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    array = io.BytesIO()
    np.save(array, np.arange(6))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("unidet-recording.json", json.dumps(case))
        archive.writestr("0.npy", array.getvalue())
    with bounded():
        _read(path)


def test_whole_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(RECORDING)
    with Recording(path) as recording:
        assert recording.meta["gradient_norms"] == {"a": 1.0}
        assert recording.get("layer", "a").tolist() == [0, 1, 2, 3, 4, 5]  # type: ignore[union-attr]
    certificate = tmp_path / "a.parity.json"
    certificate.write_text(json.dumps(CONTENT))
    assert read_certificate(certificate).to_dict() == CONTENT
