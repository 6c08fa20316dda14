"""Runs that are measured by LVIS's rules, or by boxes alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import toy
from runs import rows

from unidet.config import Config
from unidet.data import generate_scenes, load_dataset
from unidet.engine import train
from unidet.engine.preflight import check_metrics
from unidet.errors import UserError
from unidet.evaluation.run import metric_names


@pytest.fixture(scope="module")
def lvis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes whose annotations have the form of LVIS."""
    root = tmp_path_factory.mktemp("rules") / "scenes"
    generate_scenes(root, 6, size=(64, 64), seed=1)
    content = json.loads((root / "annotations.json").read_text())
    for image in content["images"]:
        image |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    for category, group in zip(content["categories"], "rcfrcf"):
        category["frequency"] = group
    (root / "lvis.json").write_text(json.dumps(content))
    return root


def _config(root: Path, name: str = "lvis.json", **evaluation: Any) -> Config:
    toy.register()
    source = {"annotations": name, "images": "images"}
    data = {"format": "lvis", "root": str(root), "train": source, "val": source}
    changes = {"train": {"epochs": 1, "best_metric": "AP50"}, "evaluation": evaluation}
    return toy.config(root, data=data, **changes)


@pytest.mark.parametrize(
    ("evaluation", "names"),
    [
        ({}, metric_names("lvis")),
        ({"max_detections": 2}, metric_names("lvis", max_detections=2)),
        ({"class_agnostic": True}, metric_names("lvis", class_agnostic=True)),
    ],
    ids=["lvis", "limit", "boxes"],
)
def test_a_run_logs_the_metrics_of_its_data(
    backend: str, evaluation: dict[str, Any], names: tuple[str, ...], lvis: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lvis", reason="the package lvis is not installed")
    train(_config(lvis, **evaluation), backend=backend, work_dir=tmp_path / "run")
    found = [row["eval"] for row in rows(tmp_path / "run") if "eval" in row]
    assert [tuple(values) for values in found] == [names]
    saved = json.loads((tmp_path / "run/evaluation.json").read_text())["metrics"]
    assert saved.keys() == set(names) and -1 <= saved["AP50"] <= 1


def test_metrics_of_other_rules_are_refused(lvis: Path) -> None:
    val_sets = [
        load_dataset(
            {"format": "lvis", "annotations": lvis / "lvis.json", "images": lvis / "images"}
        )
    ]
    for name, evaluation in (("AR1", {}), ("APr", {"class_agnostic": True})):
        config = _config(lvis, **evaluation)
        options = dataclasses.replace(config.train, best_metric=name)
        with pytest.raises(UserError, match=f"best_metric.*Received '{name}'"):
            check_metrics(dataclasses.replace(config, train=options), val_sets)
    check_metrics(_config(lvis), val_sets)
