"""The published two-stage checkpoints: complete, and the same bytes out as in."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import golden, golden_tensors, hollow, same, save_as_torch_does
from unidet.checkpoints.native import load_checkpoint
from unidet.checkpoints.published import export_checkpoint, import_checkpoint, read_published
from unidet.weights_convert import FAMILIES, find_state, read_container
from unidet.weights_convert.families.labels import COCO, COCO_SLOTS

#: Golden folder: family, model, tensors in the file, names, how the file is asked for.
PEERS: dict[str, tuple[str, str, int, Any, str | None]] = {
    "torchvision_fasterrcnn_resnet50_fpn": (
        "torchvision_fasterrcnn_v1",
        "faster_rcnn_r50_fpn_torchvision_v1",
        295,
        COCO_SLOTS,
        None,
    ),
    "torchvision_fasterrcnn_resnet50_fpn_v2": (
        "torchvision_fasterrcnn_v2",
        "faster_rcnn_r50_fpn_torchvision_v2",
        404,
        COCO_SLOTS,
        None,
    ),
    "mmdet_faster_rcnn_r50_fpn": (
        "mmdet_faster_rcnn",
        "faster_rcnn_r50_fpn_mmdet",
        348,
        COCO,
        None,
    ),
    "mmdet_faster_rcnn_r50_caffe_fpn": (
        "mmdet_faster_rcnn_caffe",
        "faster_rcnn_r50_fpn_mmdet_caffe",
        348,
        COCO,
        "mmdet_faster_rcnn_caffe",
    ),
    "detectron2_faster_rcnn_R_50_FPN": (
        "detectron2_faster_rcnn",
        "faster_rcnn_r50_fpn_detectron2",
        295,
        COCO,
        None,
    ),
    "detectron2_faster_rcnn_R_50_C4": (
        "detectron2_faster_rcnn_c4",
        "faster_rcnn_r50_c4_detectron2",
        275,
        COCO,
        None,
    ),
    "detectron2_retinanet_R_50_FPN": (
        "detectron2_retinanet",
        "retinanet_r50_fpn_detectron2",
        301,
        COCO,
        None,
    ),
}


def _save(path: Path, meta: dict[str, Any], content: dict[str, Any]) -> Path:
    """In the peer's own container."""
    if "pickle" in (meta.get("container") or {}).get("format", ""):
        path = path.with_suffix(".pkl")
        path.write_bytes(pickle.dumps(content))
        return path
    save_as_torch_does(path, content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_published_files_make_whole_models(tmp_path: Path, sample_data: Path, peer: str) -> None:
    """The published container in, a model that takes every tensor, and the same bytes out."""
    pytest.importorskip("torch")
    from unidet.backends import nn, ops
    from unidet.models import create_model

    name, model_name, tensors, labels, asked = PEERS[peer]
    state, meta, content = golden(sample_data, peer)
    assert len(state) == tensors
    source = _save(tmp_path / "a.pth", meta, content)
    found = import_checkpoint(source, tmp_path / "b.safetensors", family=asked)
    assert found.family == name and found.report.ok
    native = load_checkpoint(tmp_path / "b.safetensors")
    assert native.model["name"] == model_name and native.class_names == labels
    model = create_model(model_name, backend="torch", seed=None, **native.model["arguments"])
    report = nn.load_arrays(model, native.arrays)
    assert not (report.missing or report.unexpected or report.mismatched)
    assert json.loads(json.dumps(model.config)) == native.model
    count = sum(int(np.prod(ops.shape(value))) for value in nn.parameters(model).values())
    if "caffe" in name:  # there the frozen norms count as parameters
        affine = ("bn1.", "bn2.", "bn3.", "downsample.1.")
        count += sum(
            array.size
            for key, array in native.arrays.items()
            if key.endswith(("weight", "bias")) and any(part in key for part in affine)
        )
    assert count == meta["parameters"]
    # Out again, under the owner's names.
    back = tmp_path / ("c.pkl" if source.suffix == ".pkl" else "c.pth")
    export_checkpoint(tmp_path / "b.safetensors", back, family=name)
    if source.suffix == ".pkl":  # as detectron2 reads it
        with back.open("rb") as file:
            plain = pickle.load(file, encoding="latin1")
        assert {"model", "__author__"} <= plain.keys()
    same(find_state(read_container(back)[0]).arrays, state)
    again = read_published(back)
    assert again.family == name, "an export says of itself what it is"
    same(again.checkpoint.arrays, native.arrays)
    assert again.checkpoint.model == native.model


@pytest.mark.parametrize("peer", PEERS)
def test_golden_weights_raise_no_suspicion(sample_data: Path, peer: str) -> None:
    family = FAMILIES[PEERS[peer][0]]
    hollowed = hollow(sample_data, peer)
    wanted = ("stem.conv1.weight", "body.conv1.weight", "cls_score.bias", "fc_cls.bias")
    few = [key for key in hollowed if key.endswith(wanted) or key == "backbone.conv1.weight"]
    assert len(few) == 2
    notes = family.to_native({**hollowed, **golden_tensors(sample_data, peer, few)}).report.notes
    assert not [note for note in notes if "suspicious" in note]


@pytest.mark.parametrize("peer", PEERS)
def test_tensors_and_parameters_are_as_many_as_published(sample_data: Path, peer: str) -> None:
    state = hollow(sample_data, peer)
    family = FAMILIES[PEERS[peer][0]]
    mapped = family.to_native(state)
    assert len(state) == PEERS[peer][2]
    norms = {key[: -len("running_var")] for key in mapped.arrays if key.endswith("running_var")}
    count = sum(
        array.size
        for key, array in mapped.arrays.items()
        if key.endswith(("weight", "bias"))
        # Frozen norms are no parameters, but for mmdetection.
        and not (family.frozen_norm and key[: key.rindex(".") + 1] in norms)
    )
    meta = json.loads((sample_data / "golden/given" / peer / "meta.json").read_text())
    assert count == meta["parameters"]
