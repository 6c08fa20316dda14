"""What may be registered, and what is refused in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unidet
from unidet.backends import ops
from unidet.cli.main import main
from unidet.config import from_mapping
from unidet.config.formats import ANNOTATION_FORMATS
from unidet.data import create_augmentation, load_dataset
from unidet.data.augmentations import AUGMENTATIONS
from unidet.data.sources import FORMATS
from unidet.errors import UserError
from unidet.models import MODELS, create_model
from unidet.models.retinanet import RetinaNet
from unidet.weights_convert.families import FAMILIES
from unidet.weights_convert.families.known import FAMILIES as KNOWN


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that a test registers is gone after it."""
    monkeypatch.delenv("UNIDET_PLUGINS", raising=False)
    places: tuple[Any, ...] = (MODELS, FORMATS, AUGMENTATIONS, FAMILIES)
    before = [dict(place) for place in places]
    formats = list(ANNOTATION_FORMATS)
    yield
    for place, content in zip(places, before):
        place.clear()
        place.update(content)
    ANNOTATION_FORMATS[:] = formats


def test_a_preset_is_one_call() -> None:
    unidet.register_model("retinanet_tiny", RetinaNet, {"depth": 18, "fpn_channels": 32})
    model = create_model("retinanet_tiny", backend="numpy", num_classes=2)
    assert model.config["name"] == "retinanet_tiny"
    assert model.config["arguments"]["fpn_channels"] == 32


def test_models_that_cannot_be_registered() -> None:
    with pytest.raises(UserError, match="'retinanet_r18_fpn', which exists already"):
        unidet.register_model("retinanet_r18_fpn", RetinaNet)
    with pytest.raises(UserError, match=r"derives from\s+unidet.models.DetectionModel"):
        unidet.register_model("mine", dict)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="letters, digits"):
        unidet.register_model("my model", RetinaNet)
    with pytest.raises(ValueError, match="head_norm"):
        unidet.register_model("mine", RetinaNet, {"head_norm": "batch"})
    assert "mine" not in MODELS


def test_a_format_is_read_by_configs(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def reader(**given: Any) -> Any:
        seen.update(given)
        return "the data"

    unidet.register_dataset_format("csv", reader, ["annotations"])
    assert load_dataset({"format": "csv", "annotations": "a.csv", "on_bad": "skip"}) == "the data"
    assert seen == {"annotations": "a.csv", "on_bad": "skip"}
    config = {"data": {"format": "csv", "train": {"annotations": "a.csv"}}}
    assert from_mapping({"model": {"name": "x"}, **config}).data.format == "csv"
    with pytest.raises(UserError, match="Unknown key `images` of a data set of format csv"):
        load_dataset({"format": "csv", "images": "b"})
    with pytest.raises(UserError, match="Expected some of annotations, images, root, split"):
        unidet.register_dataset_format("other", reader, ["path"])


def test_an_augmentation_is_made_by_name() -> None:
    class Invert:
        def __init__(self, strength: float = 1.0) -> None:
            self.strength = strength

    unidet.register_augmentation("invert", Invert)
    made: Any = create_augmentation("invert", {"strength": 0.5})
    assert made.strength == 0.5


def test_an_operation_runs_on_the_framework_of_its_tensors(backend: str) -> None:
    def double(x: Any, factor: float = 2) -> Any:
        return x * factor

    name = f"double_{backend}"
    operation = unidet.register_op(name, **{backend: double, "numpy": lambda x, factor=2: x * 7})
    x = ops.asarray(np.ones(3, np.float32), backend=backend)
    assert ops.to_numpy(operation(x, factor=3)).tolist() == [3, 3, 3]
    assert operation(np.ones(2)).tolist() == [7, 7]
    with pytest.raises(UserError, match="one that is free"):
        unidet.register_op(name, torch=double)
    with pytest.raises(UserError, match="one that is free"):
        unidet.register_op("conv2d", torch=double)
    with pytest.raises(TypeError, match="Expected a tensor"):
        operation("no tensor")


def test_a_family_is_added_once() -> None:
    with pytest.raises(UserError, match="exists already"):
        unidet.register_checkpoint_family(KNOWN["mmdet_retinanet"])


def test_a_plugin_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--plugin", "nowhere.to_be_found"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("unidet: error: Cannot import the plugin 'nowhere.to_be_found'")
    assert "\n" not in error.strip()
    (tmp_path / "my_plugin.py").write_text("import unidet\nLOADED = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["doctor", "--json", "--plugin", "my_plugin"]) in (0, 1)
    assert sys.modules["my_plugin"].LOADED
    assert "UNIDET_PLUGINS" not in os.environ
