"""Published files as native checkpoints, and the file format of those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import arrays, golden, hollow, same, save_as_torch_does
from unidet.checkpoints.native import (
    FORMAT_VERSION,
    Checkpoint,
    load_checkpoint,
    read_arrays,
    write_arrays,
    write_checkpoint,
)
from unidet.checkpoints.published import (
    export_checkpoint,
    import_checkpoint,
    read_native,
    read_published,
)
from unidet.errors import UserError
from unidet.weights_convert import find_state, jt2pt, pt2jt, read_container, write_torch
from unidet.weights_convert.families.labels import COCO, COCO_SLOTS


def _checkpoint(**changes: Any) -> Checkpoint:
    parts: dict[str, Any] = {
        "arrays": arrays(),
        "model": {"name": "retinanet_r18_fpn", "arguments": {"num_classes": 2}},
        "class_names": ("cat", "dög"),
        "preprocess": {"min_size": 100},
        "source": {"run": "demo"},
    }
    return Checkpoint(**{**parts, **changes})


def test_native_checkpoints_keep_everything(tmp_path: Path) -> None:
    saved = _checkpoint()
    write_checkpoint(tmp_path / "x.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "x.safetensors")
    same(loaded.arrays, saved.arrays)
    assert loaded.arrays["count"].shape == ()
    for part in ("model", "class_names", "preprocess", "source"):
        assert getattr(loaded, part) == getattr(saved, part)
    with pytest.raises(UserError, match="which exists"):
        write_checkpoint(tmp_path / "x.safetensors", saved)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "without unidet's metadata"),
        ({"format_version": FORMAT_VERSION + 1, "model": {"name": "x"}}, "newer unidet"),
        ({"format_version": "x", "model": {"name": "x"}}, "format 'x'"),
        ({"format_version": 1, "model": "x"}, "damaged"),
        ({"format_version": 1, "model": {"name": 3}}, "damaged"),
        ({"format_version": 1, "model": {"name": "x"}, "class_names": [1]}, "damaged"),
        ({"format_version": 1, "model": {"name": "x"}, "preprocess": [1]}, "damaged"),
        ([1], "damaged"),
    ],
)
def test_other_metadata_is_refused(tmp_path: Path, metadata: Any, said: str) -> None:
    path = tmp_path / "x.safetensors"
    write_arrays(path, arrays(), metadata)
    with pytest.raises(UserError, match=said) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_cut_off_and_foreign_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, _checkpoint())
    content = path.read_bytes()
    for offset in range(0, len(content), len(content) // 50):
        path.write_bytes(content[:offset])
        with pytest.raises(UserError, match=r"x\.safetensors"):
            load_checkpoint(path)
    write_torch(path, arrays(), overwrite=True)
    with pytest.raises(UserError, match="convert import"):
        load_checkpoint(path)
    with pytest.raises(UserError, match="not found"):
        read_arrays(tmp_path / "absent.safetensors")


def test_native_checkpoints_survive_both_frameworks_containers(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.safetensors", _checkpoint())
    pt2jt(tmp_path / "a.safetensors", tmp_path / "b.pkl")
    jt2pt(tmp_path / "b.pkl", tmp_path / "c.pth")
    pt2jt(tmp_path / "c.pth", tmp_path / "d.safetensors")
    for name in ("b.pkl", "c.pth", "d.safetensors"):
        loaded = read_native(tmp_path / name)
        same(loaded.arrays, arrays())
        assert loaded.model == _checkpoint().model
        assert loaded.class_names == ("cat", "dög")
    same(read_container(tmp_path / "c.pth")[0], arrays())


def test_import_and_export_lose_no_byte(tmp_path: Path, sample_data: Path) -> None:
    state, _, content = golden(sample_data, "yhenon_retinanet_resnet18")
    save_as_torch_does(tmp_path / "a.pth", content)
    names = tuple("abcde")
    found = import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors", class_names=names)
    assert (found.family, found.report.ok) == ("yhenon_retinanet", True)
    native = load_checkpoint(tmp_path / "b.safetensors")
    assert native.class_names == names
    assert native.model["name"] == "retinanet_r18_fpn_yhenon"
    assert native.model["arguments"]["num_classes"] == 5
    assert native.model["arguments"]["class_names"] == list(names)
    assert native.preprocess["resize"] == "yhenon"
    assert native.source["family"] == "yhenon_retinanet"
    for name in ("c.pth", "c.pkl", "c.safetensors"):
        export_checkpoint(tmp_path / "b.safetensors", tmp_path / name, family="yhenon_retinanet")
        same(read_container(tmp_path / name)[0], state)


def test_imported_arguments_make_the_model(tmp_path: Path, sample_data: Path) -> None:
    pytest.importorskip("torch")
    from unidet.backends import nn
    from unidet.models import create_model

    state, _, _ = golden(sample_data, "yhenon_retinanet_resnet18")
    write_torch(tmp_path / "a.pth", {"model": {f"module.{k}": v for k, v in state.items()}})
    import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    native = load_checkpoint(tmp_path / "b.safetensors")
    model = create_model(
        native.model["name"], backend="torch", seed=None, **native.model["arguments"]
    )
    nn.load_arrays(model, native.arrays)
    same(dict(nn.state_arrays(model)), native.arrays)
    assert json.loads(json.dumps(model.config)) == native.model
    assert model.preprocess.to_dict() == native.preprocess


def _published(path: Path, state: dict[str, np.ndarray], **others: Any) -> Path:
    write_torch(path, {"state_dict": state, **others})
    return path


def test_class_names_of_published_label_spaces(tmp_path: Path, sample_data: Path) -> None:
    mmdet = hollow(sample_data, "mmdet_retinanet_r50_fpn")
    path = _published(tmp_path / "coco.pth", mmdet)
    assert read_published(path).checkpoint.class_names == COCO
    own = tuple(f"class {i}" for i in range(80))
    for i, meta in enumerate(({"CLASSES": own}, {"dataset_meta": {"classes": list(own)}})):
        path = _published(tmp_path / f"own{i}.pth", mmdet, meta=meta)
        assert read_published(path).checkpoint.class_names == own
    slots = _published(
        tmp_path / "tv.pth", hollow(sample_data, "torchvision_retinanet_resnet50_fpn")
    )
    assert read_published(slots).checkpoint.class_names == COCO_SLOTS
    assert (COCO_SLOTS[1], COCO_SLOTS[90]) == ("person", "toothbrush")
    assert (len(COCO_SLOTS), len(COCO)) == (91, 80)
    few = _published(tmp_path / "few.pth", hollow(sample_data, "yhenon_retinanet_resnet18"))
    found = read_published(few)
    assert found.checkpoint.class_names == ()
    assert any("unknown" in note for note in found.report.notes)
    with pytest.raises(UserError, match=r"Expected 5\. Received 2"):
        read_published(few, class_names=["a", "b"])


def test_exports_follow_the_models_conventions(tmp_path: Path, sample_data: Path) -> None:
    state = hollow(sample_data, "torchvision_retinanet_resnet50_fpn")
    source = _published(tmp_path / "a.pth", state)
    native = tmp_path / "b.safetensors"
    import_checkpoint(source, native)
    with pytest.raises(UserError, match="Its family is torchvision_retinanet_v1"):
        export_checkpoint(native, tmp_path / "c.pth", family="yhenon_retinanet")
    with pytest.raises(UserError, match="Did you mean"):
        export_checkpoint(native, tmp_path / "c.pth", family="yhenon_retinane")
    with pytest.raises(UserError, match="Expected a checkpoint of unidet"):
        export_checkpoint(source, tmp_path / "c.pth", family="torchvision_retinanet_v1")
    report = export_checkpoint(native, tmp_path / "c.pth", family="torchvision_retinanet_v1")
    assert report.notes == []
    same(find_state(read_container(tmp_path / "c.pth")[0]).arrays, state)
    # A convention that a file of this family cannot carry is said aloud.
    loaded = load_checkpoint(native)
    loaded.model["arguments"]["norm_eps"] = 1e-5
    write_checkpoint(native, loaded, overwrite=True)
    report = export_checkpoint(native, tmp_path / "d.pth", family="torchvision_retinanet_v1")
    assert report.notes == ["the reader must be told: norm_eps 1e-05 (published: 0.0)"]


def test_exports_of_mmdetection_carry_its_wrapper(tmp_path: Path, sample_data: Path) -> None:
    state = hollow(sample_data, "mmdet_retinanet_r50_fpn")
    import_checkpoint(_published(tmp_path / "a.pth", state), tmp_path / "b.safetensors")
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family="mmdet_retinanet")
    content, _ = read_container(tmp_path / "c.pth")
    assert content["meta"]["CLASSES"] == COCO
    assert "style='pytorch'" in content["meta"]["config"]
    same(content["state_dict"], state)


def test_imports_say_what_was_wrong(tmp_path: Path, sample_data: Path) -> None:
    state = hollow(sample_data, "yhenon_retinanet_resnet18")
    path = _published(tmp_path / "a.pth", state)
    with pytest.raises(UserError, match=r"mmdet_retinanet\)\. Received a RetinaNet of yhenon"):
        read_published(path, family="mmdet_retinanet")
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        import_checkpoint(path, tmp_path / "b.pth")
    write_checkpoint(tmp_path / "n.safetensors", _checkpoint())
    with pytest.raises(UserError, match="needs no import"):
        read_published(tmp_path / "n.safetensors")
    del state["bn1.bias"]
    partial = _published(tmp_path / "p.pth", state)
    with pytest.raises(UserError, match="1 missing"):
        import_checkpoint(partial, tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()
    found = import_checkpoint(partial, tmp_path / "c.safetensors", strict=False)
    assert [row.target for row in found.report.with_status("missing")] == ["backbone.bn1.bias"]
