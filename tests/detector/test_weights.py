"""Loading weights of several origins."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from unidet import load_weights
from unidet.backends import available, nn
from unidet.checkpoints.load import ConventionWarning
from unidet.checkpoints.native import save_checkpoint
from unidet.errors import UserError
from unidet.models import create_model
from unidet.weights_convert import FAMILIES

HERE = available()[0]
SMALL = {"fpn_channels": 16, "head_channels": 16, "head_depth": 1}


def _small(name: str = "retinanet_r18_fpn", seed: int = 0, **changes: Any) -> Any:
    if "yhenon" not in name:
        changes.setdefault("head_groups", 4)
    return create_model(name, backend=HERE, seed=seed, **{"num_classes": 3, **SMALL, **changes})


def _same(model: Any, arrays: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(v, arrays[k]) for k, v in nn.state_arrays(model).items())


def test_native_checkpoint(tmp_path: Path) -> None:
    origin, model = _small(seed=1), _small(seed=2)
    save_checkpoint(tmp_path / "a.safetensors", origin)
    report = load_weights(model, tmp_path / "a.safetensors")
    assert report.ok
    assert report.counts()["matched"] == len(nn.state_arrays(model))
    assert _same(model, nn.state_arrays(origin))


def test_published_file_is_recognised_and_renamed(tmp_path: Path) -> None:
    origin = _small("retinanet_r18_fpn_yhenon", seed=1)
    state, _ = FAMILIES["yhenon_retinanet"].from_native(nn.state_arrays(origin))
    save_file(state, str(tmp_path / "y.safetensors"))
    model = _small("retinanet_r18_fpn_yhenon", seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = load_weights(model, tmp_path / "y.safetensors")
    assert report.counts()["renamed"] > 10
    assert _same(model, nn.state_arrays(origin))
    again = load_weights(model, tmp_path / "y.safetensors", family="yhenon_retinanet")
    assert again.ok


def test_other_conventions_are_told(tmp_path: Path) -> None:
    origin = _small("retinanet_r18_fpn_yhenon", seed=1)
    state, _ = FAMILIES["yhenon_retinanet"].from_native(nn.state_arrays(origin))
    save_file(state, str(tmp_path / "y.safetensors"))
    model = _small("retinanet_r18_fpn_yhenon", box_std=(1.0, 1.0, 1.0, 1.0))
    with pytest.warns(ConventionWarning, match="box_std"):
        report = load_weights(model, tmp_path / "y.safetensors")
    assert any("box_std" in note for note in report.notes)


def test_another_number_of_classes_is_refused_unless_asked_for(tmp_path: Path) -> None:
    origin, model = _small(seed=1), _small(seed=2, num_classes=5)
    save_checkpoint(tmp_path / "a.safetensors", origin)
    before = nn.state_arrays(model)
    with pytest.raises(UserError, match=r"2 mismatched: .*head\.cls_out\.weight \(expected"):
        load_weights(model, tmp_path / "a.safetensors")
    assert _same(model, before), "a refused load changed the model"
    report = load_weights(model, tmp_path / "a.safetensors", reinitialise=True)
    fresh = {row.target for row in report.with_status("reinitialised")}
    assert fresh == {"head.cls_out.weight", "head.cls_out.bias"}
    after, wanted = nn.state_arrays(model), nn.state_arrays(origin)
    for name, array in after.items():
        source = before if name in fresh else wanted
        np.testing.assert_array_equal(array, source[name], err_msg=name)


def test_missing_and_unexpected_tensors(tmp_path: Path) -> None:
    model = _small(seed=2)
    arrays = nn.state_arrays(_small(seed=1))
    moved = {("other" if k == "neck.lateral.0.bias" else k): v for k, v in arrays.items()}
    save_file(moved, str(tmp_path / "a.safetensors"))
    with pytest.raises(UserError, match=r"1 missing: neck\.lateral\.0\.bias.*1 unexpected: other"):
        load_weights(model, tmp_path / "a.safetensors")
    own = nn.state_arrays(model)["neck.lateral.0.bias"]
    report = load_weights(model, tmp_path / "a.safetensors", strict=False)
    assert [r.target for r in report.with_status("missing")] == ["neck.lateral.0.bias"]
    assert [r.source for r in report.with_status("unexpected")] == ["other"]
    np.testing.assert_array_equal(nn.state_arrays(model)["neck.lateral.0.bias"], own)


def test_classifier_starts_a_backbone_on_request(tmp_path: Path) -> None:
    classifier = create_model("resnet18", backend=HERE, seed=1, num_classes=10)
    arrays = nn.state_arrays(classifier)
    save_file(arrays, str(tmp_path / "c.safetensors"))
    model = _small(seed=2)
    with pytest.raises(UserError, match="missing"):
        load_weights(model, tmp_path / "c.safetensors")
    report = load_weights(model, tmp_path / "c.safetensors", strict=False)
    assert all(row.target and "backbone" not in row.target for row in report.with_status("missing"))
    loaded = nn.state_arrays(model)
    np.testing.assert_array_equal(
        loaded["backbone.layer3.1.conv2.weight"], arrays["layer3.1.conv2.weight"]
    )


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float32)}, str(tmp_path / "a.safetensors"))
    with pytest.raises(UserError, match=r"a\.safetensors"):
        load_weights(_small(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="not found"):
        load_weights(_small(), tmp_path / "absent.pth")
