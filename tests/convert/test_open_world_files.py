"""Full-size checkpoints of CLIP's and UniDetector's layouts, as their libraries write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.helpers import golden, same, save_as_torch_does
from tests.convert.open_world import (
    DETECTORS,
    clip_archive,
    regionclip,
    regionclip_mmdet,
    tower,
    with_zero_background,
)
from unidet import load_weights
from unidet.checkpoints.native import load_checkpoint
from unidet.checkpoints.published import export_checkpoint, import_checkpoint, read_published
from unidet.weights_convert import digest, find_state, read_container

pytestmark = pytest.mark.slow
#: Parameters of the whole CLIP and of its visual tower.
_CLIP, _VISUAL = 102_007_137, 38_316_896


def _complete(native: Path) -> Any:
    """The model that a native checkpoint describes, after it has taken every tensor."""
    from unidet.backends import nn
    from unidet.models import create_model

    checkpoint = load_checkpoint(native)
    model = create_model(
        checkpoint.model["name"], backend="torch", seed=None, **checkpoint.model["arguments"]
    )
    report = nn.load_arrays(model, checkpoint.arrays)
    assert not (report.missing or report.unexpected or report.mismatched)
    assert json.loads(json.dumps(model.config)) == checkpoint.model
    return model


def _parameters(model: Any) -> int:
    from unidet.backends import nn, ops

    return sum(int(np.prod(ops.shape(value))) for value in nn.parameters(model).values())


def _script(state: dict[str, np.ndarray], path: Path) -> None:
    """``torch.jit.save`` of a module with these tensors at these names."""
    import torch

    class Part(torch.nn.Module):
        pass

    class Whole(Part):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    whole = Whole()
    for name, array in state.items():
        *parents, last = name.split(".")
        place: Any = whole
        for parent in parents:
            if parent not in place._modules:
                place.add_module(parent, Part())
            place = place._modules[parent]
        tensor = torch.from_numpy(np.array(array))
        if tensor.is_floating_point() and "running" not in last:
            place.register_parameter(last, torch.nn.Parameter(tensor, requires_grad=False))
        else:
            place.register_buffer(last, tensor)
    torch.jit.save(torch.jit.script(whole), str(path))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("container", ["archive", "state"])
def test_openais_clip(tmp_path: Path, sample_data: Path, container: str) -> None:
    pytest.importorskip("torch")
    state = clip_archive(golden(sample_data, "openai_clip_rn50")[0], derived=container == "archive")
    source = tmp_path / "RN50.pt"
    (_script if container == "archive" else _save)(state, source)
    found = import_checkpoint(source, tmp_path / "b.safetensors")
    assert found.container.kind == ("torchscript" if container == "archive" else "torch_zip")
    assert found.report.ok and found.family == "openai_clip"
    assert _parameters(_complete(tmp_path / "b.safetensors")) == _CLIP
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pt", family="openai_clip")
    same(find_state(read_container(tmp_path / "c.pt")[0]).arrays, state)
    again = read_published(tmp_path / "c.pt")
    same(again.checkpoint.arrays, found.checkpoint.arrays)


def _save(state: dict[str, np.ndarray], path: Path) -> None:
    save_as_torch_does(path, state)


@pytest.mark.parametrize("family", ["regionclip", "regionclip_mmdet"])
@pytest.mark.parametrize("legacy", [False, True])
def test_regionclip(tmp_path: Path, sample_data: Path, family: str, legacy: bool) -> None:
    """Whether the second form has step counts is not known: both are read."""
    pytest.importorskip("torch")
    visual = tower(golden(sample_data, "openai_clip_rn50")[0])
    if family == "regionclip":
        content = regionclip(visual)
        state = {k: v for k, v in content["model"].items() if k.startswith("backbone.")}
    else:
        content = regionclip_mmdet(visual, counters=legacy)
        state = content["state_dict"]
    save_as_torch_does(tmp_path / "a.pth", content, legacy=legacy)
    found = import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert found.report.ok and found.family == family
    assert _parameters(_complete(tmp_path / "b.safetensors")) == _VISUAL
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family=family)
    same(find_state(read_container(tmp_path / "c.pth")[0]).arrays, state)


@pytest.mark.parametrize("peer", DETECTORS)
@pytest.mark.parametrize("legacy", [False, True])
def test_unidetector(tmp_path: Path, sample_data: Path, peer: str, legacy: bool) -> None:
    pytest.importorskip("torch")
    family, _, name, arguments = DETECTORS[peer]
    state = with_zero_background(_state(sample_data, peer))
    count = (arguments.get("vocabulary_sizes") or (arguments.get("num_classes", 80),))[0]
    meta = {"CLASSES": tuple(f"n{i}" for i in range(count)), "mmdet_version": "2.18.0"}
    optimizer = {"state": {0: {"momentum_buffer": np.zeros(3, np.float32)}}, "param_groups": []}
    content = {"meta": meta, "state_dict": state, "optimizer": optimizer}
    save_as_torch_does(tmp_path / "a.pth", content, legacy=legacy)
    found = import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert found.report.ok and found.family == family
    assert not found.report.with_status("dropped", "reinitialised")
    model = _complete(tmp_path / "b.safetensors")
    assert model.model_name == name
    export_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", family=family)
    same(find_state(read_container(tmp_path / "c.pth")[0]).arrays, state)
    again = read_published(tmp_path / "c.pth")
    assert again.family == family and again.checkpoint.model == found.checkpoint.model
    # And into a model that is there already.
    assert load_weights(model, tmp_path / "a.pth").ok


def _state(sample_data: Path, peer: str) -> dict[str, np.ndarray]:
    """As stored; its checksum is of the state with a zero background."""
    from tests.golden.support import Golden

    return Golden(sample_data, peer).state(zero_background="cln" not in peer)


def test_the_file_that_unidetector_starts_from(tmp_path: Path, sample_data: Path) -> None:
    """It lacks what the official recipe starts anew: proposals, boxes and the vocabulary."""
    pytest.importorskip("torch")
    from unidet.backends import nn
    from unidet.models import create_model

    visual = tower(golden(sample_data, "openai_clip_rn50")[0])
    save_as_torch_does(tmp_path / "a.pth", regionclip_mmdet(visual, counters=False))
    model = create_model("unidetector_e2e_r50_c4", backend="torch")
    report = load_weights(model, tmp_path / "a.pth", strict=False)
    missing = {row.target for row in report.with_status("missing")}
    assert missing == {
        *(f"rpn.{p}.{k}" for p in ("convs.0", "cls_out", "box_out") for k in ("weight", "bias")),
        *("head.box_out.weight", "head.box_out.bias", "head.text_embeddings"),
    }
    assert not report.with_status("unexpected", "mismatched", "dropped")
    own = nn.state_arrays(model)
    for key, value in visual.items():
        head = key.startswith(("layer4", "attnpool"))
        taken = own[f"{'head' if head else 'backbone'}.{key}"]
        assert digest(np.asarray(taken)) == digest(np.asarray(value))
