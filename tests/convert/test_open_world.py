"""CLIP, RegionCLIP and UniDetector: every tensor in, and the same bytes out."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import golden_tensors, hollow, same
from tests.convert.open_world import (
    DETECTORS,
    clip_archive,
    regionclip,
    regionclip_mmdet,
    tower,
    with_zero_background,
    without_counters,
    write_torchscript,
)
from unidet.checkpoints.inspection import inspect_checkpoint
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
    detect_family,
    find_state,
    read_container,
    write_torch,
)
from unidet.weights_convert.families.clip import DERIVED
from unidet.weights_convert.families.labels import COCO


@pytest.mark.parametrize("peer", DETECTORS)
def test_detectors_are_known_by_their_tensors(sample_data: Path, peer: str) -> None:
    state = with_zero_background(hollow(sample_data, peer))
    family, form, model, arguments = DETECTORS[peer]
    found = detect_family(state)
    mapped = found.to_native(state)
    assert (found.name, mapped.form) == (family, form)
    assert mapped.description == {"name": model, "arguments": arguments}
    assert {row.status for row in mapped.report.rows} == {"matched", "renamed"}
    assert len(mapped.report.rows) == len(state) and not mapped.report.notes
    back, report = found.from_native(mapped.arrays, form=form)
    assert report.ok
    same(back, state)
    shapes = {name: array.shape for name, array in state.items()}
    assert [f.name for f in FAMILIES.values() if f.matches(shapes)] == [family]


def test_partitioned_end_to_end(sample_data: Path) -> None:
    state = with_zero_background(hollow(sample_data, "unidetector_partitioned"))
    rpn = hollow(sample_data, "unidetector_e2e")
    state.update((key, value) for key, value in rpn.items() if key.startswith("rpn_head."))
    mapped = detect_family(state).to_native(state)
    assert mapped.form == "e2e" and mapped.report.ok
    assert mapped.description == {
        "name": "unidetector_e2e_r50_c4",
        "arguments": {"num_classes": 60, "vocabulary_sizes": (25, 60)},
    }
    same(detect_family(state).from_native(mapped.arrays, form="e2e")[0], state)
    assert FAMILIES["unidetector_partitioned"].form_for("unidetector_e2e_r50_c4").name == "e2e"
    state["roi_head.bbox_head.zs_weights_3"] = state["roi_head.bbox_head.zs_weights_1"]
    with pytest.raises(CheckpointError, match="numbered from 0"):
        detect_family(state).to_native(state)


def test_a_background_that_is_a_class_is_doubted(sample_data: Path) -> None:
    state = hollow(sample_data, "unidetector_stage2")  # ones in the last column
    notes = detect_family(state).to_native(state).report.notes
    assert ["head.text_embeddings" in note for note in notes if "suspicious" in note] == [True]


@pytest.mark.parametrize("peer", DETECTORS)
def test_detectors_of_the_official_form_go_through_files(
    tmp_path: Path, sample_data: Path, peer: str
) -> None:
    family, _, model, arguments = DETECTORS[peer]
    state = with_zero_background(hollow(sample_data, peer))
    count = (arguments.get("vocabulary_sizes") or (arguments.get("num_classes"),))[0]
    names = tuple(f"class {i}" for i in range(count or 80))
    meta = {"CLASSES": names, "epoch": 12}
    write_torch(tmp_path / "a.pth", {"meta": meta, "state_dict": state})
    found = import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert found.checkpoint.class_names == (("object",) if "cln" in peer else names)
    full = full_arguments({"name": model, "arguments": arguments})
    if "cln" not in peer:
        full["class_names"] = list(names)
    assert found.checkpoint.model == {"name": model, "arguments": full}
    assert found.checkpoint.preprocess == full["preprocess"]
    report = export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family=family)
    assert report.ok and not report.notes
    content, _ = read_container(tmp_path / "c.pth")
    assert content["meta"]["CLASSES"] == found.checkpoint.class_names
    assert ("CLIPResNet" in content["meta"]["config"]) == ("cln" not in peer)
    same(content["state_dict"], state)
    shown = inspect_checkpoint(tmp_path / "a.pth")
    assert (shown.family, shown.model, shown.problem) == (family, model, "")
    assert shown.conventions["backbone"].startswith("stride" if "cln" in peer else "CLIP's")


def test_names_of_the_first_vocabulary_are_asked_for(tmp_path: Path, sample_data: Path) -> None:
    state = with_zero_background(hollow(sample_data, "unidetector_partitioned"))
    write_torch(tmp_path / "a.pth", {"state_dict": state})
    names = [f"n{i}" for i in range(25)]
    assert read_published(tmp_path / "a.pth", class_names=names).checkpoint.class_names == tuple(
        names
    )
    with pytest.raises(UserError, match="Expected 25"):
        read_published(tmp_path / "a.pth", class_names=names[1:])
    found = read_published(tmp_path / "a.pth")
    assert any("names are unknown" in note for note in found.report.notes)


def test_a_detector_without_vocabulary_gets_one_of_zeros(tmp_path: Path, sample_data: Path) -> None:
    state = hollow(sample_data, "unidetector_stage2")
    del state["roi_head.bbox_head.zs_weights"]
    write_torch(tmp_path / "a.pth", {"state_dict": state})
    found = import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    (row,) = found.report.with_status("reinitialised")
    assert (row.target, row.note) == ("head.text_embeddings", "zeros: to be set")
    assert not found.checkpoint.arrays["head.text_embeddings"].any()
    assert found.checkpoint.class_names == COCO
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family="unidetector_stage2")
    same(find_state(read_container(tmp_path / "c.pth")[0]).arrays, state)


@pytest.mark.parametrize("peer", ["unidetector_e2e", "unidetector_stage2"])
@pytest.mark.parametrize("gone", ["zs_weights", "fc_reg.weight", "layer4.1.conv2.weight"])
def test_a_missing_tensor_is_named(sample_data: Path, peer: str, gone: str) -> None:
    state = hollow(sample_data, peer)
    key = next(key for key in state if key.endswith(gone))
    del state[key]
    family = FAMILIES[peer]
    if gone == "zs_weights":
        assert family.to_native(state).report.ok
    else:
        with pytest.raises(StateMismatchError, match=r"missing|without"):
            family.to_native(state)


def test_regionclip_leaves_the_rest_of_its_pretraining(tmp_path: Path, sample_data: Path) -> None:
    visual = tower(hollow(sample_data, "openai_clip_rn50"))
    content = regionclip(visual)
    assert not any(key.endswith("num_batches_tracked") for key in content["model"])
    write_torch(tmp_path / "a.pth", content)
    found = import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert found.family == "regionclip" and found.checkpoint.model["name"] == "clip_rn50_visual"
    dropped = {row.source for row in found.report.with_status("dropped")}
    kept = {key for key in content["model"] if key.startswith("backbone.")}
    assert dropped == content["model"].keys() - kept and len(dropped) == 7
    assert found.report.counts()["renamed"] == len(kept)
    assert {r.target for r in found.report.with_status("reinitialised")} == {
        key for key in visual if key.endswith("num_batches_tracked")
    }
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family="regionclip")
    same(
        find_state(read_container(tmp_path / "c.pth")[0]).arrays,
        {k: content["model"][k] for k in kept},
    )
    # Into mmdetection's form, as UniDetector starts from it.
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "d.pth", family="regionclip_mmdet")
    converted = find_state(read_container(tmp_path / "d.pth")[0]).arrays
    assert converted.keys() == regionclip_mmdet(visual)["state_dict"].keys()
    state = {**content["model"], "somewhere.else": np.zeros(1, np.float32)}
    with pytest.raises(StateMismatchError, match=r"1 unexpected: somewhere\.else"):
        detect_family(state).to_native(state)


@pytest.mark.parametrize("counters", [False, True])
def test_regionclip_in_mmdetections_form(tmp_path: Path, sample_data: Path, counters: bool) -> None:
    visual = tower(hollow(sample_data, "openai_clip_rn50"))
    content = regionclip_mmdet(visual, counters=counters)
    write_torch(tmp_path / "a.pth", content)
    found = import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert found.family == "regionclip_mmdet" and found.report.ok
    assert not found.report.with_status("dropped")
    same(found.checkpoint.arrays, visual)
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family="regionclip_mmdet")
    same(find_state(read_container(tmp_path / "c.pth")[0]).arrays, content["state_dict"])


def test_archives_of_openai_lose_nothing(tmp_path: Path, sample_data: Path) -> None:
    state = clip_archive(hollow(sample_data, "openai_clip_rn50"))
    halves = {key for key, array in state.items() if array.dtype == np.float16}
    assert len(halves) > 100 and "visual.conv1.weight" in halves
    write_torchscript(tmp_path / "RN50.pt", state)
    found = import_checkpoint(tmp_path / "RN50.pt", tmp_path / "b.safetensors")
    assert (found.container.kind, found.family) == ("torchscript", "openai_clip")
    assert {row.source for row in found.report.with_status("dropped")} == set(DERIVED)
    assert not found.report.with_status("reinitialised")
    assert found.checkpoint.model["arguments"]["embed_dim"] == 1024
    assert all(a.dtype in (np.float32, np.int64) for a in found.checkpoint.arrays.values())
    assert f"{len(halves)} float16 tensors were widened to float32 (exact)" in found.report.notes
    for name in halves:
        assert np.array_equal(found.checkpoint.arrays[name], state[name].astype(np.float32))
    report = export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pt", family="openai_clip")
    assert report.ok
    assert {r.target for r in report.with_status("reinitialised")} == set(DERIVED)
    same(find_state(read_container(tmp_path / "c.pt")[0]).arrays, state)


@pytest.mark.parametrize("counters", [False, True])
def test_plain_states_of_openai(sample_data: Path, counters: bool) -> None:
    state = clip_archive(hollow(sample_data, "openai_clip_rn50"), derived=False)
    state = state if counters else without_counters(state)
    family = detect_family(state)
    mapped = family.to_native(state)
    assert (family.name, mapped.form) == ("openai_clip", "state")
    assert len(mapped.reinitialised) == (0 if counters else 55)
    back, _ = family.from_native(
        mapped.arrays,
        form="state",
        without=mapped.reinitialised,
        float16_names=mapped.float16_names,
    )
    same(back, state)


def test_what_a_half_cannot_hold_stays_single(sample_data: Path) -> None:
    family = FAMILIES["openai_clip"]
    state = clip_archive(hollow(sample_data, "openai_clip_rn50"))
    mapped = family.to_native(state)
    changed = {**mapped.arrays, "visual.conv1.weight": np.full((32, 3, 3, 3), 0.1, np.float32)}
    changed["visual.conv2.weight"] = np.full((32, 32, 3, 3), 1e6, np.float32)
    back, report = family.from_native(changed, float16_names=mapped.float16_names)
    assert back["visual.conv1.weight"] is changed["visual.conv1.weight"]
    assert back["visual.conv2.weight"].dtype == np.float32
    assert back["visual.conv3.weight"].dtype == np.float16
    assert report.notes == ["2 tensors stay float32: float16 cannot hold them"]


def test_rn101_and_other_sizes(sample_data: Path) -> None:
    state = hollow(sample_data, "openai_clip_rn50")
    block = {k: v for k, v in state.items() if k.startswith("visual.layer3.5.")}
    for i in range(6, 23):
        state.update((k.replace("layer3.5.", f"layer3.{i}."), v) for k, v in block.items())
    for key, shape in (
        ("visual.attnpool.c_proj.weight", (512, 2048)),
        ("visual.attnpool.c_proj.bias", (512,)),
        ("text_projection", (512, 512)),
    ):
        state[key] = np.broadcast_to(np.float32(0), shape)
    mapped = detect_family(state).to_native(state)
    assert mapped.description["name"] == "clip_rn101" and mapped.report.ok
    assert mapped.description["arguments"]["vision_layers"] == (3, 4, 23, 3)
    wide = {**state, "visual.conv1.weight": np.zeros((40, 3, 3, 3), np.float32)}
    with pytest.raises(CheckpointError, match="another CLIP of OpenAI"):
        detect_family(wide)
    with pytest.raises(StateMismatchError, match="3x3 stem"):
        FAMILIES["openai_clip"].to_native(wide)
    del state["visual.layer3.22.conv1.weight"]
    with pytest.raises(StateMismatchError, match=r"1 missing: visual\.layer3\.22\.conv1"):
        detect_family(state).to_native(state)
    for key in [k for k in state if k.startswith("visual.layer3.22.")]:
        del state[key]
    with pytest.raises(CheckpointError, match="Received 22"):
        detect_family(state).to_native(state)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clip_rn50", {}),
        ("clip_rn101", {}),
        ("clip_rn50_visual", {}),
        ("unidetector_e2e_r50_c4", {"num_classes": 7}),
        ("unidetector_stage2_r50_c4", {"num_classes": 7, "vocabulary_sizes": (5, 7)}),
        ("unidetector_cln_r50_fpn", {}),
    ],
)
def test_the_models_have_these_tensors(backend: str, name: str, arguments: dict[str, Any]) -> None:
    from unidet.backends import nn
    from unidet.models import create_model

    if backend == "jittor" and name in ("clip_rn50", "clip_rn101"):
        pytest.skip("the same tensors as clip_rn50_visual, at ten times the memory")
    model = create_model(name, backend=backend, seed=None, **arguments)
    found = {key: tuple(shape) for key, shape in nn.shapes(model).items()}
    numbered = "vocabulary_sizes" in arguments
    family = next(
        f for f in FAMILIES.values() if f.takes_model(name) and numbered == ("part" in f.name)
    )
    form = family.form_for(name)
    expected = (form.network or family.network).expect(found, counters=True)
    shapes = {key: shape or (1,) for key, shape in expected.shapes.items()}
    assert {key: shape or (1,) for key, shape in found.items()} == shapes
    config = json.loads(json.dumps(model.config))
    assert expected.name == config["name"]
    stated = json.loads(json.dumps(expected.arguments))
    assert {key: config["arguments"][key] for key in stated} == stated
    if name.startswith("clip_"):
        assert config["arguments"] == stated


def test_golden_weights_raise_no_suspicion(sample_data: Path) -> None:
    for peer, (family, *_) in DETECTORS.items():
        state = with_zero_background(hollow(sample_data, peer))
        few = ["backbone.conv1.weight", "backbone.layer1.0.conv1.weight"]
        mapped = FAMILIES[family].to_native({**state, **golden_tensors(sample_data, peer, few)})
        assert not [note for note in mapped.report.notes if "suspicious" in note]


def test_the_command_line(
    tmp_path: Path, sample_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, native, back = (tmp_path / name for name in ("a.pth", "b.safetensors", "c.pth"))
    state = with_zero_background(hollow(sample_data, "unidetector_partitioned"))
    write_torch(source, {"state_dict": state})
    assert main(["convert", "inspect", str(source)]) == 0
    text = capsys.readouterr().out
    for part in (
        "unidetector_partitioned",
        "unidetector_stage2_r50_c4",
        "60, no background (sigmoid)",
        "RGB of 0 to 255, mean 122.771 116.746 104.094, std 68.5005 66.6322 70.3232",
        "CLIP's, a mean over 2x2 strides",
        "14x14, aligned, sampling adaptive",
    ):
        assert part in text
    assert main(["convert", "import", str(source), str(native)]) == 0
    assert main(["convert", "export", str(native), str(back), "--to", "unidetector_cln"]) == 2
    error = capsys.readouterr().err
    assert "Its family is unidetector_stage2" in error and not back.exists()
    assert main(["convert", "export", str(native), str(back), "--to", "unidetector_stage2"]) == 2
    error = capsys.readouterr().err
    assert "1 missing: head.text_embeddings; 2 unexpected" in error and not back.exists()
    command = ["convert", "export", str(native), str(back), "--to", "unidetector_partitioned"]
    assert main(command) == 0
    same(find_state(read_container(back)[0]).arrays, state)


def test_hostile_archives_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "ran"
    call = f"cposix\nsystem\n(X{chr(6 + len(str(marker)))}\0\0\0touch {marker}tR".encode()
    pickled = b"\x80\x02c__torch__.clip\nCLIP\n)\x81}(X\x01\x00\x00\x00x" + call + b"ub."
    with zipfile.ZipFile(tmp_path / "RN50.pt", "w") as archive:
        archive.writestr("RN50/data.pkl", pickled)
        archive.writestr("RN50/code/__torch__.py", b"")
        archive.writestr("RN50/constants.pkl", b"\x80\x02).")
    before = sorted(tmp_path.iterdir())
    command = ["convert", "import", str(tmp_path / "RN50.pt"), str(tmp_path / "b.safetensors")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "posix.system" in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
