"""Mutated proposals, frequencies and class priors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated
from tests.fuzz.test_annotations import DOCUMENT, RESULTS
from unidet.data.coco import load_coco
from unidet.data.dataset import DetectionDataset
from unidet.data.frequencies import read_frequencies
from unidet.data.proposals import read_proposals
from unidet.evaluation.class_prior import read_class_prior

PROPOSALS = {"1": [[1, 2, 30, 40], [0, 0, 5, 5]], "2": [[1.5, 2, 30, 40]]}
FREQUENCIES = [
    {"id": 1, "name": "cat", "image_count": 4},
    {"id": 3, "name": "dog", "image_count": 0},
]


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(DOCUMENT))
    return load_coco(path, tmp_path)


@fuzz(mutated(PROPOSALS))
def test_proposals(case: Any, dataset: DetectionDataset, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(case))
    with bounded():
        rows = read_proposals(path, dataset)
        assert len(rows) == 2 and all(r.dtype == "float32" and r.ndim == 2 for r in rows)


@fuzz(mutated(FREQUENCIES))
def test_frequencies(case: Any, dataset: DetectionDataset, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps(case))
    with bounded():
        assert read_frequencies(path, dataset).shape == (2,)


@fuzz(mutated(RESULTS))
def test_class_priors(case: Any, dataset: DetectionDataset, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(case))
    with bounded():
        assert len(read_class_prior(path, dataset)) == 2
