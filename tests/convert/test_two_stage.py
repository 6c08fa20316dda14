"""Published two-stage checkpoints, and those that names alone cannot tell apart."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.convert.helpers import (
    hollow,
    same,
)
from unidet.checkpoints.inspection import inspect_checkpoint
from unidet.checkpoints.native import Checkpoint, load_checkpoint, write_checkpoint
from unidet.checkpoints.published import (
    export_checkpoint,
    full_arguments,
    import_checkpoint,
    read_published,
)
from unidet.cli.main import main
from unidet.errors import UserError
from unidet.weights_convert import (
    FAMILIES,
    CheckpointError,
    StateMismatchError,
    backbone_state,
    detect_family,
    digest,
    find_state,
    read_container,
    write_torch,
)
from unidet.weights_convert.families.labels import COCO


def test_caffe_style_is_read_off_the_config(tmp_path: Path, sample_data: Path) -> None:
    state = _dense(hollow(sample_data, "mmdet_retinanet_r50_fpn"))
    for text, family in (
        ("backbone=dict(type='ResNet', style='caffe')", "mmdet_retinanet_caffe"),
        ('{"backbone": {"style": "pytorch"}}', "mmdet_retinanet"),
        (None, "mmdet_retinanet"),
    ):
        extras = {} if text is None else {"meta": {"config": text}}
        assert detect_family(state, extras=extras).name == family
    path = tmp_path / "a.pth"
    meta = {"cfg": {"model": {"backbone": {"style": "caffe"}}}}  # as mmdetection 3 may hold it
    write_torch(path, {"state_dict": state, "meta": meta})
    found = read_published(path)
    assert found.family == "mmdet_retinanet_caffe"
    assert found.checkpoint.preprocess["channel_order"] == "bgr"
    assert found.checkpoint.model["arguments"]["stride_in_1x1"] is True
    assert any("says caffe style" in note for note in found.report.notes)
    shown = inspect_checkpoint(path)
    assert shown.family == "mmdet_retinanet_caffe"
    assert shown.conventions["input"].startswith("BGR of 0 to 255, mean 103.53")
    assert shown.conventions["backbone"] == "stride in the 1x1, frozen norm, eps 1e-05"
    # The user's word counts, and is doubted.
    asked = read_published(path, family="mmdet_retinanet")
    assert asked.checkpoint.preprocess["channel_order"] == "rgb"
    assert any("suspicious: mmdet_retinanet was asked for" in n for n in asked.report.notes)
    write_torch(path, {"state_dict": state}, overwrite=True)
    assert any("does not say which style" in n for n in read_published(path).report.notes)


def _dense(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with a plausible first kernel."""
    rng = np.random.default_rng(0)
    key = next(k for k in state if k.endswith("conv1.weight") and state[k].shape[-1] == 7)
    return {**state, key: rng.normal(0, 0.1, state[key].shape).astype(np.float32)}


def test_step_counts_of_caffe_files_come_back(sample_data: Path) -> None:
    state = hollow(sample_data, "mmdet_faster_rcnn_r50_caffe_fpn")
    family = FAMILIES["mmdet_faster_rcnn_caffe"]
    mapped = family.to_native(state)
    assert not any(name.endswith("num_batches_tracked") for name in mapped.arrays)
    same(family.from_native(mapped.arrays)[0], state)
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    mapped = family.to_native(old)
    same(family.from_native(mapped.arrays, without=mapped.reinitialised)[0], old)


def test_files_that_share_the_backbones_names_are_loaded_whole(
    tmp_path: Path, sample_data: Path
) -> None:
    pytest.importorskip("torch")
    from unidet import load_weights
    from unidet.models import create_model

    state = hollow(sample_data, "mmdet_faster_rcnn_r50_fpn")
    write_torch(tmp_path / "a.pth", {"state_dict": state})
    model = create_model("faster_rcnn_r50_fpn_mmdet", backend="torch", seed=None)
    report = load_weights(model, tmp_path / "a.pth")
    assert len(report.with_status("matched", "renamed")) == len(state)


def _legacy(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    old = {key.replace("roi_head.bbox_head.", "bbox_head."): v for key, v in state.items()}
    for kind, shape in (("weight", (324, 1024)), ("bias", (324,))):
        old[f"bbox_head.fc_reg.{kind}"] = np.broadcast_to(np.float32(1), shape)
    return old


def test_mmdetection_before_2(tmp_path: Path, sample_data: Path) -> None:
    old = _legacy(hollow(sample_data, "mmdet_faster_rcnn_r50_fpn"))
    family = detect_family(old)
    mapped = family.to_native(old)
    assert (family.name, mapped.form) == ("mmdet_faster_rcnn", "1.x")
    arguments = full_arguments(mapped.description)
    assert (arguments["num_classes"], arguments["background"]) == (81, "first")
    assert arguments["box_background"] and not arguments["roi_aligned"]
    assert any("(+1)" in note and "not reproduced" in note for note in mapped.report.notes)
    same(family.from_native(mapped.arrays, form="1.x")[0], old)
    with pytest.raises(CheckpointError, match="background last"):
        family.from_native(mapped.arrays, form="")
    write_torch(tmp_path / "a.pth", {"state_dict": old, "meta": {"CLASSES": COCO}})
    import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    native = load_checkpoint(tmp_path / "b.safetensors")
    assert native.class_names == ("__background__", *COCO)
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family=family.name)
    content, _ = read_container(tmp_path / "c.pth")
    assert content["meta"]["CLASSES"] == COCO
    same(content["state_dict"], old)


def test_mmdetections_c4(sample_data: Path) -> None:
    """Its names, from detectron2's file of the same shapes."""
    theirs = hollow(sample_data, "detectron2_faster_rcnn_R_50_C4")
    arrays = FAMILIES["detectron2_faster_rcnn_c4"].to_native(theirs).arrays
    family = FAMILIES["mmdet_faster_rcnn_c4"]
    state, _ = family.from_native(arrays)
    assert detect_family(state) is family
    for name in (
        "roi_head.shared_head.layer4.2.bn3.running_var",
        "roi_head.bbox_head.fc_cls.weight",
        "backbone.layer3.5.conv3.weight",
        "backbone.bn1.num_batches_tracked",
        "rpn_head.rpn_reg.bias",
    ):
        assert name in state
    mapped = family.to_native(state)
    assert mapped.description["name"] == "faster_rcnn_r50_c4_mmdet_caffe"
    same(mapped.arrays, arrays)
    assert full_arguments(mapped.description)["anchor_order"] == "ratio"


def test_both_namings_of_torchvisions_faster_rcnn(sample_data: Path) -> None:
    peer = "torchvision_fasterrcnn_resnet50_fpn"
    state = hollow(sample_data, peer)
    meta = json.loads((sample_data / "golden/given" / peer / "meta.json").read_text())
    renamed = {meta["module_names"].get(key, key): value for key, value in state.items()}
    family = FAMILIES["torchvision_fasterrcnn_v1"]
    old, new = family.to_native(state), family.to_native(renamed)
    assert (old.form, new.form) == ("file", "module")
    assert all(old.arrays[key] is new.arrays[key] for key in old.arrays)
    assert family.from_native(old.arrays, form="module")[0].keys() == renamed.keys()
    assert any("eps 0" in note for note in old.report.notes)
    assert full_arguments(old.description)["norm_eps"] == 0
    # Trained by its owner with plain batch norm, whose eps is another.
    for key in [key for key in renamed if key.endswith("running_var")]:
        renamed[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    plain = full_arguments(family.to_native(renamed).description)
    assert (plain["norm"], plain["norm_eps"]) == ("batch", 1e-5)


def test_extras_of_old_detectron2_files_are_ignored_by_name(sample_data: Path) -> None:
    for peer, prefix in (
        ("detectron2_faster_rcnn_R_50_C4", "proposal_generator."),
        ("detectron2_retinanet_R_50_FPN", ""),
    ):
        state = hollow(sample_data, peer)
        extras = {
            f"{prefix}anchor_generator.cell_anchors.0": np.zeros((15, 4), np.float32),
            "pixel_mean": np.zeros((3, 1, 1), np.float32),
            "pixel_std": np.zeros((3, 1, 1), np.float32),
        }
        mapped = detect_family(state).to_native({**state, **extras})
        assert {row.source for row in mapped.report.with_status("dropped")} == set(extras)
        with pytest.raises(StateMismatchError, match="1 unexpected: pixel_median"):
            detect_family(state).to_native({**state, "pixel_median": np.zeros(3)})


def test_weights_that_look_made_for_other_conventions(sample_data: Path) -> None:
    state = _dense(hollow(sample_data, "mmdet_faster_rcnn_r50_fpn"))
    bias = "roi_head.bbox_head.fc_cls.bias"
    state[bias] = np.linspace(0, 1, 81, dtype=np.float32)

    def notes(family: str) -> list[str]:
        found = FAMILIES[family].to_native(state).report.notes
        return [note for note in found if note.startswith("suspicious")]

    assert notes("mmdet_faster_rcnn") == []
    assert len(notes("mmdet_faster_rcnn_caffe")) == 1
    state[bias] = state[bias][::-1]
    assert ["the first one has the largest bias" in n for n in notes("mmdet_faster_rcnn")] == [True]
    state[bias] = state[bias][::-1]
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"] / np.float32(58)
    assert ["caffe style" in note for note in notes("mmdet_faster_rcnn")] == [True]
    assert notes("mmdet_faster_rcnn_caffe") == []


def test_resnets_of_clip_are_refused_with_a_reason(sample_data: Path, tmp_path: Path) -> None:
    clip = hollow(sample_data, "openai_clip_rn50")
    visual = {k.removeprefix("visual."): v for k, v in clip.items() if k.startswith("visual.")}
    for state in (visual, {k: v for k, v in visual.items() if "attnpool" not in k}):
        with pytest.raises(CheckpointError, match=r"one of CLIP.*three stem convolutions"):
            backbone_state(state)
        with pytest.raises(CheckpointError, match=r"a ResNet of CLIP.*three stem convolutions"):
            detect_family(state)
        with pytest.raises(CheckpointError, match=r"7x7 stem|without"):
            FAMILIES["torchvision_resnet"].to_native(state)
    with pytest.raises(CheckpointError, match="one of CLIP"):
        backbone_state({k: v for k, v in clip.items() if k.startswith("visual.")})
    pytest.importorskip("torch")
    from unidet import load_weights
    from unidet.models import create_model

    # Two blocks are enough: every name and nearly every shape is the model's.
    small = {k: v for k, v in visual.items() if k.startswith(("conv1", "bn1", "layer1"))}
    write_torch(tmp_path / "clip.pth", small)
    model = create_model("resnet50", backend="torch", seed=None)
    with pytest.raises(UserError, match="one of CLIP"):
        load_weights(model, tmp_path / "clip.pth", strict=False)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("faster_rcnn_r18_fpn_torchvision_v1", "torchvision_fasterrcnn_v1"),
        ("faster_rcnn_r18_fpn_torchvision_v2", "torchvision_fasterrcnn_v2"),
        ("faster_rcnn_r18_fpn_mmdet", "mmdet_faster_rcnn"),
        ("faster_rcnn_r18_fpn_mmdet_caffe", "mmdet_faster_rcnn_caffe"),
        ("faster_rcnn_r18_fpn_detectron2", "detectron2_faster_rcnn"),
        ("faster_rcnn_r50_c4_detectron2", "detectron2_faster_rcnn_c4"),
        pytest.param(
            "faster_rcnn_r50_c4_mmdet_caffe", "mmdet_faster_rcnn_c4", marks=pytest.mark.slow
        ),
    ],
)
def test_own_models_of_other_classes_open_as_the_peers(
    tmp_path: Path, name: str, family: str
) -> None:
    pytest.importorskip("torch")
    from unidet.backends import nn
    from unidet.models import create_model

    labels = ("__background__", "cat", "dog") if "torchvision" in name else ("cat", "dog", "cow")
    narrow = {"fpn_channels": 8, "head_channels": 16} if "fpn" in name else {}
    model = create_model(
        name, backend="torch", seed=None, num_classes=3, class_names=labels, **narrow
    )
    arrays = dict(nn.state_arrays(model))
    native = tmp_path / "a.safetensors"
    write_checkpoint(native, Checkpoint(arrays, model.config, labels, model.preprocess.to_dict()))
    out = tmp_path / "b.pth"
    report = export_checkpoint(native, out, family=family)
    assert report.ok and not any("must be told" in note for note in report.notes)
    content, _ = read_container(out)
    state = find_state(content).arrays
    rows = {key: array.shape[0] for key, array in state.items() if array.ndim}
    head = {
        "torchvision": ("roi_heads.box_predictor.cls_score.weight", 3, "bbox_pred", 12),
        "mmdet": ("roi_head.bbox_head.fc_cls.weight", 4, "fc_reg", 12),
        "detectron2": ("roi_heads.box_predictor.cls_score.weight", 4, "bbox_pred", 12),
    }[family.split("_")[0]]
    assert rows[head[0]] == head[1]
    box = head[0].replace("cls_score", head[2]).replace("fc_cls", head[2])
    assert rows[box] == head[3]
    if "mmdet" in family:
        assert content["meta"]["CLASSES"] == labels
    again = read_published(out, class_names=labels)
    assert again.family == family
    same(again.checkpoint.arrays, arrays)
    assert again.checkpoint.model == json.loads(json.dumps(model.config))


@pytest.mark.parametrize("style", ["fpn", "c4"])
def test_the_models_have_these_tensors(backend: str, style: str) -> None:
    from unidet.backends import nn
    from unidet.models import MODELS, create_model

    depth = 18 if style == "fpn" else 50
    names = [name for name in MODELS if name.startswith(f"faster_rcnn_r{depth}_{style}_")]
    assert len(names) == (5 if style == "fpn" else 2)
    for name in names if backend == "torch" else names[1:2]:
        model = create_model(name, backend=backend, num_classes=4, seed=None)
        found = {key: tuple(np.shape(value)) for key, value in nn.state_arrays(model).items()}
        counters = any(key.endswith("num_batches_tracked") for key in found)
        family = next(f for f in FAMILIES.values() if f.takes_model(name))
        assert family.network.expect(found, counters=counters).shapes == found


def test_class_agnostic_heads(sample_data: Path) -> None:
    state = hollow(sample_data, "detectron2_faster_rcnn_R_50_FPN")
    for kind, shape in (("weight", (4, 1024)), ("bias", (4,))):
        state[f"roi_heads.box_predictor.bbox_pred.{kind}"] = np.broadcast_to(np.float32(0), shape)
    mapped = detect_family(state).to_native(state)
    assert mapped.description["arguments"] == {"num_classes": 80, "class_agnostic": True}
    assert full_arguments(mapped.description)["class_agnostic"] is True


def test_relatives_are_not_taken_for_faster_rcnn(sample_data: Path) -> None:
    state = hollow(sample_data, "mmdet_faster_rcnn_r50_fpn")
    mask = {"roi_head.mask_head.convs.0.conv.weight": np.zeros((1, 1, 3, 3), np.float32)}
    with pytest.raises(StateMismatchError, match=r"1 unexpected: roi_head\.mask_head"):
        detect_family(state).to_native({**state, **mask})
    oln = hollow(sample_data, "unidetector_cln")
    with pytest.raises(StateMismatchError, match="another model's"):
        FAMILIES["mmdet_faster_rcnn"].to_native(oln)


def test_the_command_line(
    tmp_path: Path, sample_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = _dense(hollow(sample_data, "detectron2_faster_rcnn_R_50_C4"))
    key = "backbone.stem.conv1.weight"
    state[key] = state[key] / np.float32(58)
    source = tmp_path / "model_final.pkl"
    source.write_bytes(pickle.dumps({"model": state, "__author__": "x"}))
    assert main(["convert", "inspect", str(source)]) == 0
    text = capsys.readouterr().out
    for part in (
        "detectron2_faster_rcnn_c4",
        "faster_rcnn_r50_c4_detectron2",
        "80, background last",
        "BGR of 0 to 255, mean 103.53 116.28 123.675, std 1 1 1",
        "size-outer, offset 0.0, not rounded",
        "14x14, aligned, sampling adaptive",
        "padded to multiples of 1",
    ):
        assert part in text
    native = tmp_path / "a.safetensors"
    assert main(["convert", "import", str(source), str(native)]) == 0
    assert main(["convert", "inspect", str(native)]) == 0
    assert "80, background last" in capsys.readouterr().out
    arguments = ["--to", "detectron2_faster_rcnn_c4"]
    assert main(["convert", "export", str(native), str(tmp_path / "b.pkl"), *arguments]) == 0
    same(find_state(read_container(tmp_path / "b.pkl")[0]).arrays, state)
    assert digest(state[key]) == digest(
        read_published(source).checkpoint.arrays["backbone.conv1.weight"]
    )
    assert (
        main(["convert", "export", str(native), str(tmp_path / "c.pth"), "--to", "mmdet_retinanet"])
        == 2
    )
