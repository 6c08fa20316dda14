"""Starting weights of detectors on CLIP's ResNet, and vocabularies that loading leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import hollow
from tests.convert.open_world import (
    clip_archive,
    regionclip,
    regionclip_mmdet,
    tower,
    with_zero_background,
    write_torchscript,
)
from unidet import load_weights
from unidet.backends import nn, ops
from unidet.certificate.certify import fixed_batch
from unidet.checkpoints.native import Checkpoint, write_checkpoint
from unidet.cli.main import main
from unidet.engine.setup import load_initial_weights
from unidet.errors import UserError
from unidet.models import create_model
from unidet.weights_convert import digest, write_safetensors, write_torch
from unidet.weights_convert.families import detector_start

NAMES = ("cat", "dog", "cow")
FRESH = ("rpn.", "head.box_out.", "head.text_embeddings")


def _detector(backend: str, style: str = "stage2", **arguments: Any) -> Any:
    arguments.setdefault("num_classes", 3)
    return create_model(f"unidetector_{style}_r50_c4", backend=backend, seed=None, **arguments)


def _native(path: Path, arrays: dict[str, np.ndarray], name: str) -> None:
    write_checkpoint(path, Checkpoint(arrays, {"name": name, "arguments": {}}))


def _clip(sample_data: Path) -> dict[str, np.ndarray]:
    return hollow(sample_data, "openai_clip_rn50")


#: How a file of each layout is written.
FILES: dict[str, Callable[[Path, dict[str, np.ndarray]], None]] = {
    "OpenAI's archive": lambda path, clip: write_torchscript(path, clip_archive(clip)),
    "RegionCLIP": lambda path, clip: write_torch(path, regionclip(tower(clip))),
    "RegionCLIP for mmdetection": lambda path, clip: write_torch(
        path, regionclip_mmdet(tower(clip), counters=False)
    ),
    "clip_rn50": lambda path, clip: _native(path, clip, "clip_rn50"),
    "clip_rn50_visual": lambda path, clip: _native(path, tower(clip), "clip_rn50_visual"),
}


@pytest.mark.parametrize("layout", FILES)
def test_any_visual_tower_starts_a_detector(tmp_path: Path, sample_data: Path, layout: str) -> None:
    pytest.importorskip("torch")
    clip = _clip(sample_data)
    path = tmp_path / ("a.safetensors" if layout.startswith("clip") else "a.pt")
    FILES[layout](path, clip)
    model = _detector("torch", "e2e" if layout == "RegionCLIP" else "stage2")
    report = load_weights(model, path, strict=False, reinitialise=True)
    missing = {row.target for row in report.with_status("missing")}
    own = nn.state_arrays(model)
    assert missing == {key for key in own if key.startswith(FRESH)}
    assert not report.with_status("unexpected", "mismatched")
    visual = {k: np.asarray(v, np.float32) for k, v in tower(clip).items()}
    for key, value in own.items():
        if key not in missing and not key.endswith("num_batches_tracked"):
            inner = key.removeprefix("backbone.").removeprefix("head.")
            assert value.dtype == np.float32 and np.array_equal(value, visual[inner]), key
    # Every tensor of the file has a row.
    dropped = report.with_status("dropped")
    assert all(row.note == "not of the visual tower" for row in dropped)
    taken = report.with_status("matched", "renamed")
    assert len(dropped) == {
        "OpenAI's archive": len(clip) + 3 - len(visual),
        "RegionCLIP": 7,
        "clip_rn50": len(clip) - len(visual),
    }.get(layout, 0)
    assert len(taken) >= len([k for k in visual if not k.endswith("num_batches_tracked")])
    with pytest.raises(UserError, match="missing"):
        load_weights(model, path)
    assert "renamed" in load_initial_weights(model, str(path))


def test_another_detector_starts_one(tmp_path: Path, sample_data: Path, backend: str) -> None:
    state = with_zero_background(hollow(sample_data, "unidetector_stage2"))
    write_torch(tmp_path / "a.pth", {"state_dict": state})
    model = _detector(backend, "e2e")
    before = digest(nn.state_arrays(model)["head.text_embeddings"])
    report = load_weights(model, tmp_path / "a.pth", strict=False, reinitialise=True)
    assert {row.target for row in report.with_status("missing")} == {
        f"rpn.{part}.{kind}"
        for part in ("convs.0", "cls_out", "box_out")
        for kind in ("weight", "bias")
    }
    (other,) = report.with_status("reinitialised")
    assert (other.target, other.shape) == ("head.text_embeddings", (1024, 61))
    own = nn.state_arrays(model)
    assert digest(own["head.text_embeddings"]) == before
    assert own["head.box_out.bias"].any()


def test_resnets_and_clip_are_not_mixed(tmp_path: Path, sample_data: Path) -> None:
    pytest.importorskip("torch")
    resnet = hollow(sample_data, "torchvision_resnet50")
    write_torch(tmp_path / "resnet.pth", resnet)
    write_torch(tmp_path / "clip.pth", regionclip(tower(_clip(sample_data))))
    cln = create_model("unidetector_cln_r50_fpn", backend="torch", seed=None)
    report = load_weights(cln, tmp_path / "resnet.pth", strict=False, reinitialise=True)
    assert all(not row.target.startswith("backbone") for row in report.with_status("missing"))
    assert nn.state_arrays(cln)["backbone.bn1.weight"].any()
    with pytest.raises(UserError, match="Expected a ResNet in torchvision's layout"):
        load_weights(cln, tmp_path / "clip.pth", strict=False, reinitialise=True)
    detector = _detector("torch")
    with pytest.raises(UserError, match="Expected a ResNet of CLIP"):
        load_weights(detector, tmp_path / "resnet.pth", strict=False, reinitialise=True)
    assert not nn.state_arrays(detector)["backbone.layer1.0.conv1.weight"].any()


def test_a_tower_is_not_seen_where_there_is_none(sample_data: Path) -> None:
    clip = _clip(sample_data)
    visual = tower(clip)
    assert detector_start(visual) is not None
    assert detector_start({k: v for k, v in visual.items() if "attnpool" not in k}) is None
    assert detector_start({k: v for k, v in visual.items() if k != "conv1.weight"}) is None
    wide = {**visual, "conv1.weight": np.zeros((40, 3, 3, 3), np.float32)}
    assert detector_start(wide) is None
    assert detector_start(hollow(sample_data, "unidetector_e2e")) is None


def test_openai_and_regionclip_fill_their_own_models(tmp_path: Path, sample_data: Path) -> None:
    pytest.importorskip("torch")
    clip = _clip(sample_data)
    write_torch(tmp_path / "clip.pt", clip_archive(clip))
    model = create_model("clip_rn50", backend="torch", seed=None)
    report = load_weights(model, tmp_path / "clip.pt")
    assert len(report.with_status("dropped")) == 3
    assert report.counts()["matched"] == len(clip)
    write_torch(tmp_path / "region.pth", regionclip(tower(clip)))
    visual = create_model("clip_rn50_visual", backend="torch", seed=None)
    report = load_weights(visual, tmp_path / "region.pth")
    assert report.ok and len(report.with_status("dropped")) == 7
    assert np.array_equal(
        nn.state_arrays(visual)["attnpool.q_proj.bias"], clip["visual.attnpool.q_proj.bias"]
    )


def _given(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 1024)).astype(np.float32)


@pytest.mark.parametrize("form", ["official", "native"])
@pytest.mark.parametrize("count", [60, 3])
def test_a_given_vocabulary_stays(
    tmp_path: Path, sample_data: Path, backend: str, form: str, count: int
) -> None:
    """Also where the file's has the same size and would fit."""
    state = with_zero_background(hollow(sample_data, "unidetector_stage2"))
    if form == "official":
        write_torch(tmp_path / "a.pth", {"state_dict": state})
    else:
        other = _detector(backend, num_classes=60)
        load_weights(other, _official(tmp_path / "b.pth", state))
        write_safetensors(tmp_path / "a.pth", nn.state_arrays(other))
    model = _detector(backend, num_classes=count)
    model.set_vocabulary([f"n{i}" for i in range(count)], _given(count))
    report = load_weights(model, tmp_path / "a.pth")  # strict
    (row,) = report.with_status("kept")
    assert (row.target, row.note) == (
        "head.text_embeddings",
        "the model's own vocabulary stays",
    )
    own = nn.state_arrays(model)
    assert np.array_equal(own["head.text_embeddings"][:, :-1], _given(count).T)
    assert np.array_equal(own["head.box_out.bias"], state["roi_head.bbox_head.fc_reg.bias"])
    assert "1 kept" in report.summary()


def _official(path: Path, state: dict[str, np.ndarray]) -> Path:
    write_torch(path, {"state_dict": state})
    return path


def test_without_one_the_files_is_taken(tmp_path: Path, sample_data: Path, backend: str) -> None:
    state = with_zero_background(hollow(sample_data, "unidetector_stage2"))
    path = _official(tmp_path / "a.pth", state)
    model = _detector(backend, num_classes=60)
    assert not load_weights(model, path).with_status("kept")
    own = nn.state_arrays(model)["head.text_embeddings"]
    assert np.array_equal(own, state["roi_head.bbox_head.zs_weights"])
    with pytest.raises(UserError, match=r"1 mismatched: roi_head\.bbox_head\.zs_weights"):
        load_weights(_detector(backend), path)


def test_vocabularies_of_data_sets_give_way_to_the_given_one(
    tmp_path: Path, sample_data: Path
) -> None:
    pytest.importorskip("torch")
    state = with_zero_background(hollow(sample_data, "unidetector_partitioned"))
    path = _official(tmp_path / "a.pth", state)
    model = _detector("torch")
    with pytest.raises(UserError, match="unexpected"):
        load_weights(model, path)
    model.set_vocabulary(NAMES, _given(3))
    report = load_weights(model, path)
    left = report.with_status("dropped")
    assert {row.source for row in left} == {f"roi_head.bbox_head.zs_weights_{i}" for i in (0, 1)}
    assert {row.note for row in left} == {"the model's own vocabulary stays"}
    assert [row.target for row in report.with_status("kept")] == ["head.text_embeddings"]
    # A file without any: the zeros that an import would put there do not reach the model.
    bare = {k: v for k, v in state.items() if "zs_weights" not in k}
    report = load_weights(model, _official(tmp_path / "b.pth", bare))
    assert [row.source for row in report.with_status("kept")] == [None]
    fresh = _detector("torch", num_classes=80)
    fresh.head.text_embeddings += 1
    report = load_weights(fresh, tmp_path / "b.pth", strict=False)
    assert [row.target for row in report.with_status("missing")] == ["head.text_embeddings"]
    assert nn.state_arrays(fresh)["head.text_embeddings"].all()


def test_training_vocabularies_stay_too(tmp_path: Path, sample_data: Path, backend: str) -> None:
    state = with_zero_background(hollow(sample_data, "unidetector_partitioned"))
    path = _official(tmp_path / "a.pth", state)
    model = _detector(backend, num_classes=60, vocabulary_sizes=(25, 60))
    model.set_training_vocabularies([_given(25), _given(60)])
    report = load_weights(model, path)
    assert len(report.with_status("kept")) == 2
    own = nn.state_arrays(model)["head.text_embeddings_1"]
    assert np.array_equal(own[:, :-1], _given(60).T)


def test_the_visual_tower_by_itself(backend: str) -> None:
    model = create_model("clip_rn50_visual", backend=backend)
    batch = fixed_batch(model, images=1)
    assert batch.images.shape == (1, 3, 224, 224)
    like = next(iter(nn.parameters(model).values()))
    with ops.no_grad():
        features = ops.to_numpy(model(ops.asarray(batch.images, like=like))["features"])
    assert features.shape == (1, 1024) and np.isfinite(features).all() and features.std() > 0
    with pytest.raises(ValueError, match=r"224, 224\)\. Received \(1, 3, 224, 223\)"):
        model(ops.asarray(batch.images[..., :223], like=like))


@pytest.mark.slow
def test_a_whole_clip_is_certified(
    tmp_path: Path, sample_data: Path, both: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_torch(tmp_path / "a.pt", _clip(sample_data))
    command = ["convert", "import", str(tmp_path / "a.pt"), str(tmp_path / "b.safetensors")]
    assert main([*command, "--certify"]) == 0
    assert "PASS" in capsys.readouterr().out
    # Every block of both towers was compared.
    layers = json.loads((tmp_path / "b.safetensors.parity.json").read_text())["layers"]
    names = {layer["name"] for layer in layers}
    assert {"visual.layer4.2", "transformer.resblocks.11"} <= names
