"""Published layouts to native names and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import golden, hollow, same, save_as_torch_does
from unidet.weights_convert import (
    FAMILIES,
    CheckpointError,
    StateMismatchError,
    backbone_state,
    detect_family,
    digest,
    family_named,
    find_state,
    read_container,
    write_torch,
)
from unidet.weights_convert.families.architecture import BLOCKS
from unidet.weights_convert.families.native import native_shapes

#: Folder of the golden outputs, family, model, arguments.
PEERS = {
    "yhenon_retinanet_resnet18": ("yhenon_retinanet", "retinanet_r18_fpn_yhenon", 5),
    "yhenon_retinanet_resnet34": ("yhenon_retinanet", "retinanet_r34_fpn_yhenon", 7),
    "yhenon_retinanet_resnet50": ("yhenon_retinanet", "retinanet_r50_fpn_yhenon", 80),
    "yhenon_retinanet_resnet101": ("yhenon_retinanet", "retinanet_r101_fpn_yhenon", 20),
    "yhenon_retinanet_resnet152": ("yhenon_retinanet", "retinanet_r152_fpn_yhenon", 3),
    "torchvision_retinanet_resnet50_fpn": (
        "torchvision_retinanet_v1",
        "retinanet_r50_fpn_torchvision_v1",
        91,
    ),
    "torchvision_retinanet_resnet50_fpn_v2": (
        "torchvision_retinanet_v2",
        "retinanet_r50_fpn_torchvision_v2",
        91,
    ),
    "mmdet_retinanet_r50_fpn": ("mmdet_retinanet", "retinanet_r50_fpn_mmdet", 80),
    "torchvision_fasterrcnn_resnet50_fpn": (
        "torchvision_fasterrcnn_v1",
        "faster_rcnn_r50_fpn_torchvision_v1",
        91,
    ),
    "torchvision_fasterrcnn_resnet50_fpn_v2": (
        "torchvision_fasterrcnn_v2",
        "faster_rcnn_r50_fpn_torchvision_v2",
        91,
    ),
    "mmdet_faster_rcnn_r50_fpn": ("mmdet_faster_rcnn", "faster_rcnn_r50_fpn_mmdet", 80),
    "detectron2_faster_rcnn_R_50_FPN": (
        "detectron2_faster_rcnn",
        "faster_rcnn_r50_fpn_detectron2",
        80,
    ),
    "detectron2_faster_rcnn_R_50_C4": (
        "detectron2_faster_rcnn_c4",
        "faster_rcnn_r50_c4_detectron2",
        80,
    ),
    "detectron2_retinanet_R_50_FPN": ("detectron2_retinanet", "retinanet_r50_fpn_detectron2", 80),
    "fb_detr_r50": ("facebook_detr", "detr_r50", 91),
    "hf_detr_resnet50": ("huggingface_detr", "detr_r50_huggingface", 91),
    "torchvision_resnet18": ("torchvision_resnet", "resnet18", 1000),
    "torchvision_resnet50": ("torchvision_resnet", "resnet50", 1000),
}
FULL = [
    "yhenon_retinanet_resnet18",
    "yhenon_retinanet_resnet34",
    "torchvision_retinanet_resnet50_fpn",
    "torchvision_retinanet_resnet50_fpn_v2",
    "mmdet_retinanet_r50_fpn",
    "torchvision_fasterrcnn_resnet50_fpn_v2",
    "mmdet_faster_rcnn_r50_fpn",
    "torchvision_resnet18",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "yhenon_retinanet_resnet50",
            "yhenon_retinanet_resnet101",
            "yhenon_retinanet_resnet152",
            "torchvision_resnet50",
            "torchvision_fasterrcnn_resnet50_fpn",
            "fb_detr_r50",
            "hf_detr_resnet50",
        )
    ),
]


@pytest.mark.parametrize("peer", FULL)
def test_real_files_lose_no_byte(tmp_path: Path, sample_data: Path, peer: str) -> None:
    state, meta, content = golden(sample_data, peer)
    save_as_torch_does(tmp_path / "a.pth", content)
    read = find_state(read_container(tmp_path / "a.pth")[0])
    assert read.wrapper == (
        (meta["container"]["key"],) if (meta.get("container") or {}).get("key") else ()
    )
    family = detect_family(read.arrays)
    mapped = family.to_native(read.arrays)
    assert mapped.report.ok and not mapped.report.with_status("dropped", "reinitialised")
    back, report = family.from_native(mapped.arrays, form=mapped.form)
    assert report.ok
    write_torch(tmp_path / "b.pth", back)
    same(read_container(tmp_path / "b.pth")[0], state)


@pytest.mark.parametrize("peer", PEERS)
def test_family_depth_and_classes_are_found(sample_data: Path, peer: str) -> None:
    state = hollow(sample_data, peer)
    name, model, classes = PEERS[peer]
    family = detect_family(state)
    mapped = family.to_native(state)
    assert family.name == name
    assert mapped.description == {"name": model, "arguments": {"num_classes": classes}}
    found = {status for status, count in mapped.report.counts().items() if count}
    assert found <= {"matched", "renamed", "reinitialised"}
    own = mapped.report.with_status("reinitialised")
    assert [row.target for row in own] == (["loss_divisor"] if "detectron2_ret" in peer else [])
    # Hugging Face parts query, key and value, in weight and bias of 18 attentions.
    joined = {row.target for row in mapped.report.rows if "proj" in row.note}
    assert len(joined) == (36 if "hf_" in peer else 0)
    assert len(mapped.report.rows) - len(own) == len(state)
    assert len(mapped.arrays) - len(own) == len(state) - 2 * len(joined)
    # Every other tensor is the file's own array: nothing is computed.
    values = {id(array) for array in state.values()}
    added = {row.target for row in own} | joined
    assert all(
        id(array) in values or array.ndim == 0 or name in added
        for name, array in mapped.arrays.items()
    )


def test_both_namings_of_torchvision_are_one(sample_data: Path) -> None:
    state, meta, _ = golden(sample_data, "torchvision_retinanet_resnet50_fpn")
    renamed = {meta["module_names"].get(key, key): value for key, value in state.items()}
    family = FAMILIES["torchvision_retinanet_v1"]
    old, new = family.to_native(state), family.to_native(renamed)
    assert (old.form, new.form) == ("file", "module")
    same(old.arrays, new.arrays)
    same(family.from_native(old.arrays, form="module")[0], renamed)
    same(family.from_native(new.arrays, form="file")[0], state)
    with pytest.raises(CheckpointError, match="file, module"):
        family.from_native(old.arrays, form="modul")


def test_unknown_families_are_named(sample_data: Path) -> None:
    for peer, names, title in (
        ("fb_detr_r50", "transformer.decoder.norm", "another DETR in Facebook's names"),
        ("hf_detr_resnet50", "model.query_position", "another DETR of Hugging Face"),
    ):
        state = hollow(sample_data, peer)
        cut = {name: array for name, array in state.items() if not name.startswith(names)}
        with pytest.raises(CheckpointError, match=title):
            detect_family(cut)


@pytest.mark.parametrize("peer", PEERS)
def test_no_family_takes_anothers_file(sample_data: Path, peer: str) -> None:
    state = hollow(sample_data, peer)
    shapes = {name: array.shape for name, array in state.items()}
    found = [f.name for f in FAMILIES.values() if f.matches(shapes) and f.variant_of is None]
    assert found == [PEERS[peer][0]]
    for name, family in FAMILIES.items():
        if PEERS[peer][0] not in (name, family.variant_of):
            with pytest.raises(StateMismatchError, match=r"Received a file without"):
                family.to_native(state)


@pytest.mark.parametrize(
    "peer", ["yhenon_retinanet_resnet18", "mmdet_retinanet_r50_fpn", "torchvision_resnet18"]
)
def test_problems_are_listed(sample_data: Path, peer: str) -> None:
    state = hollow(sample_data, peer)
    family = detect_family(state)
    prefix = "backbone." if "mmdet" in peer else ""
    del state[f"{prefix}layer1.0.bn1.weight"]
    state["surprise"] = np.zeros(3)
    state[f"{prefix}layer2.0.conv1.weight"] = np.zeros((1, 2, 3, 3), np.float32)
    with pytest.raises(StateMismatchError) as caught:
        family.to_native(state, source="the.pth")
    for part in (
        "the.pth",
        "1 missing",
        "layer1.0.bn1.weight",
        "1 unexpected: surprise",
        "1 mismatched",
        "received (1, 2, 3, 3)",
    ):
        assert part in str(caught.value)
    mapped = family.to_native(state, strict=False)
    counts = mapped.report.counts()
    assert (counts["missing"], counts["unexpected"], counts["mismatched"]) == (1, 1, 1)
    assert "surprise" in mapped.report.table()
    assert mapped.report.to_json()["counts"] == counts
    with pytest.raises(StateMismatchError, match="2 missing"):
        family.from_native(mapped.arrays)


def test_old_files_without_step_counts(sample_data: Path) -> None:
    state = hollow(sample_data, "torchvision_resnet18")
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    mapped = FAMILIES["torchvision_resnet"].to_native(old)
    assert mapped.report.counts()["reinitialised"] == len(state) - len(old) == 20
    count = mapped.arrays["bn1.num_batches_tracked"]
    assert (count.shape, count.dtype, int(count)) == ((), np.int64, 0)
    back, _ = FAMILIES["torchvision_resnet"].from_native(
        mapped.arrays, without=mapped.reinitialised
    )
    assert sorted(back) == sorted(old)


def test_step_counts_of_jittor_have_one_dimension(sample_data: Path) -> None:
    state = hollow(sample_data, "yhenon_retinanet_resnet18")
    state["bn1.num_batches_tracked"] = np.array([5], np.int64)
    mapped = FAMILIES["yhenon_retinanet"].to_native(state)
    assert mapped.arrays["backbone.bn1.num_batches_tracked"].shape == ()
    assert int(mapped.arrays["backbone.bn1.num_batches_tracked"]) == 5


def test_torchvision_v1_with_plain_batch_norm(sample_data: Path) -> None:
    """torchvision trains from scratch with batch norm, whose eps is not the published file's 0."""
    state = hollow(sample_data, "torchvision_retinanet_resnet50_fpn")
    for name in [key for key in state if key.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    mapped = FAMILIES["torchvision_retinanet_v1"].to_native(state)
    assert mapped.description["arguments"] == {
        "num_classes": 91,
        "norm": "batch",
        "norm_eps": 1e-5,
    }
    assert len(mapped.arrays) == len(state)


def test_parallel_prefix_and_wrappers_are_peeled(sample_data: Path) -> None:
    state = hollow(sample_data, "yhenon_retinanet_resnet18")
    tree: dict[str, Any] = {
        "epoch": 3,
        "model": {f"module.{key}": value for key, value in state.items()},
        "optimizer": {"state": {0: {"momentum": np.zeros(3)}}},
    }
    found = find_state(tree)
    assert (found.wrapper, found.prefix) == (("model",), "module.")
    assert list(found.extras) == ["epoch", "optimizer"]
    assert list(found.arrays) == list(state)


def test_backbones_start_from_classifiers(sample_data: Path) -> None:
    state = hollow(sample_data, "torchvision_resnet18")
    arrays, report = backbone_state(state)
    assert {row.source for row in report.with_status("dropped")} == {"fc.weight", "fc.bias"}
    shapes = native_shapes("retinanet_r18_fpn", {}, counters=True)
    assert {k: v.shape for k, v in arrays.items()} == {
        name: shape for name, shape in shapes.items() if name.startswith("backbone.")
    }
    assert all(
        digest(arrays[f"backbone.{k}"]) == digest(v)
        for k, v in state.items()
        if not k.startswith("fc.")
    )


def test_look_alikes_of_resnets_are_refused(sample_data: Path) -> None:
    wide = hollow(sample_data, "torchvision_resnet50")
    wide["layer1.0.conv2.weight"] = np.broadcast_to(np.float32(0), (128, 128, 3, 3))
    with pytest.raises(StateMismatchError, match=r"received \(128, 128, 3, 3\)"):
        FAMILIES["torchvision_resnet"].to_native(wide)
    clip = hollow(sample_data, "openai_clip_rn50")
    visual = {k[len("visual.") :]: v for k, v in clip.items() if k.startswith("visual.")}
    with pytest.raises(CheckpointError):
        detect_family({**visual, "fc.weight": np.zeros((1, 1))})


def test_family_names() -> None:
    assert family_named("mmdet_retinanet").preset == "mmdet"
    with pytest.raises(CheckpointError, match="Did you mean 'mmdet_retinanet'"):
        family_named("mmdet_retinane")


@pytest.mark.parametrize("depth", BLOCKS)
def test_parameter_counts_of_resnets(depth: int) -> None:
    """Known figures of torchvision's models with 1000 classes."""
    known = {18: 11689512, 34: 21797672, 50: 25557032, 101: 44549160, 152: 60192808}
    shapes = native_shapes(f"resnet{depth}", {}, counters=True)
    count = sum(
        int(np.prod(shape))
        for name, shape in shapes.items()
        if name.rpartition(".")[2] in ("weight", "bias")
    )
    assert count == known[depth]
