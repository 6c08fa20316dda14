"""Mutated COCO and LVIS files: reading, checking and scoring agree and stay within bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import mutated, mutated_bytes
from unidet.data.check import check_dataset
from unidet.data.coco import load_coco
from unidet.engine.learnable import check_learnable
from unidet.errors import UserError
from unidet.evaluation import check_results, evaluate_coco, evaluate_lvis
from unidet.evaluation.coco import complete_truth

DOCUMENT = {
    "info": {"year": 2020},
    "images": [
        {"id": 1, "file_name": "a/b.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "c.jpg", "width": 64, "height": 48, "coco_url": "http://x/y/c.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [5.5, 2, 9, 9.25], "iscrowd": 1},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [0, 0, 60, 40], "ignore": 0},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog", "supercategory": "pet"}],
}  # fmt: skip
RESULTS = [
    {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "score": 0.9},
    {"image_id": 2, "category_id": 3, "bbox": [5, 2, 9, 9], "score": 0.25},
]


def lvis_document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    for image in content["images"]:
        image.update(neg_category_ids=[3], not_exhaustive_category_ids=[])
    for category in content["categories"]:
        category.update(frequency="f", image_count=1)
    return content


def refused(call: Any) -> bool:
    try:
        call()
    except UserError:
        return True
    return False


@fuzz(mutated(DOCUMENT))
def test_checking_finds_what_reading_refuses(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(case))
    with bounded():
        fails = refused(lambda: load_coco(path, tmp_path))
        try:
            found = check_dataset(path)
        except UserError:
            assert fails
            return
        report = found.summary(), json.dumps(found.to_dict())
        assert all(report)
        # Reading refuses nothing that the check does not name.
        assert found.defects or not fails
        if not fails:
            refused(lambda: check_learnable([load_coco(path, tmp_path)]))
            load_coco(path, tmp_path, on_bad="skip")


@fuzz(mutated_bytes(json.dumps(DOCUMENT).encode(), json.dumps(DOCUMENT).encode("utf-16")))
def test_bytes_are_read_or_refused(case: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(case)
    with bounded():
        load_coco(path, tmp_path, on_bad="skip")


@fuzz(mutated(DOCUMENT), mutated(RESULTS))
def test_results_are_scored_or_refused(truth: Any, results: Any) -> None:
    with bounded():
        checked = complete_truth(truth)
        report = check_results(results, checked)
        assert report.text()
        if report.ok:
            evaluate_coco(checked, results)
    with bounded():
        evaluate_coco(DOCUMENT, results if isinstance(results, list) else [])


@fuzz(mutated(lvis_document()))
def test_lvis_is_scored_or_refused(case: Any) -> None:
    pytest.importorskip("lvis", reason="the package lvis is not installed")
    with bounded():
        evaluate_lvis(case, RESULTS)
