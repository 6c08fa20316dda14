"""DETR of Facebook and of Hugging Face, to native names and back."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.detr_files import (
    CONFIG,
    SMALL,
    detr_shapes,
    huggingface_folder,
    native,
    published,
)
from tests.convert.helpers import hollow, same, save_as_torch_does
from unidet.backends import available
from unidet.checkpoints.inspection import inspect_checkpoint
from unidet.checkpoints.native import load_checkpoint, save_checkpoint
from unidet.checkpoints.published import (
    export_checkpoint,
    import_checkpoint,
    model_and_weights,
    read_published,
)
from unidet.cli.main import main
from unidet.errors import UserError
from unidet.models import create_model
from unidet.weights_convert import (
    FAMILIES,
    CheckpointError,
    StateMismatchError,
    detect_family,
    find_state,
    read_container,
    write_torch,
)
from unidet.weights_convert.families.detr_shapes import DETRShape, infer_detr
from unidet.weights_convert.families.labels import COCO_SLOTS

FACEBOOK, HUGGINGFACE = FAMILIES["facebook_detr"], FAMILIES["huggingface_detr"]


def test_one_becomes_the_other_and_comes_back(sample_data: Path) -> None:
    """The golden files hold the published names; their values differ, so one is converted."""
    theirs = hollow(sample_data, "fb_detr_r50")
    hub = hollow(sample_data, "hf_detr_resnet50")
    arrays = FACEBOOK.to_native(theirs).arrays
    split_qkv, report = HUGGINGFACE.from_native(arrays)
    assert report.ok and {k: v.shape for k, v in split_qkv.items()} == {
        k: v.shape for k, v in hub.items()
    }
    again = HUGGINGFACE.to_native(split_qkv).arrays
    same(again, arrays)
    same(FACEBOOK.from_native(again)[0], theirs)
    joined = HUGGINGFACE.to_native(hub)
    same(HUGGINGFACE.from_native(joined.arrays)[0], hub)
    assert {k: v.shape for k, v in joined.arrays.items()} == detr_shapes(DETRShape(50, 91))
    # Query, key and value stand in this order.
    layer = "decoder.layers.3.encoder_attn"
    rows = joined.arrays["transformer.decoder.layers.3.multihead_attn.in_proj_weight"]
    for i, part in enumerate(("q_proj", "k_proj", "v_proj")):
        same(
            {"": rows[256 * i : 256 * (i + 1)].copy()},
            {"": np.array(hub[f"model.{layer}.{part}.weight"])},
        )
    row = next(r for r in joined.report.rows if r.source == f"model.{layer}.k_proj.bias")
    assert row.target == "transformer.decoder.layers.3.multihead_attn.in_proj_bias"


def test_the_hubs_four_counts_are_left_out(sample_data: Path) -> None:
    hub = hollow(sample_data, "hf_detr_resnet50")
    prefix = "model.backbone.conv_encoder.model."
    counts = {
        f"{prefix}layer{i}.0.downsample.1.num_batches_tracked": np.zeros((), np.int64)
        for i in range(1, 5)
    }
    mapped = HUGGINGFACE.to_native({**hub, **counts})
    assert {row.source for row in mapped.report.with_status("dropped")} == set(counts)
    assert "norm" not in mapped.description["arguments"] and not mapped.reinitialised
    same(HUGGINGFACE.from_native(mapped.arrays)[0], hub)


@pytest.mark.parametrize("form", ["file", "file_resnet", "memory", "memory_resnet"])
def test_every_naming_of_hugging_face(form: str) -> None:
    arrays = native()
    state = published("huggingface_detr", arrays, form)
    assert ("model.encoder.layers.0.mlp.fc1.weight" in state) == form.startswith("memory")
    assert any(".stages.3.layers.1.layer.1." in name for name in state) == ("resnet" in form)
    assert detect_family(state) is HUGGINGFACE
    mapped = HUGGINGFACE.to_native(state)
    assert mapped.form == form and mapped.report.ok
    same(mapped.arrays, arrays)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_sizes_are_read_off_the_shapes(depth: int) -> None:
    net = DETRShape(depth, 7, 9, 24, 40, 3, 1)
    shapes = detr_shapes(net)
    assert infer_detr(shapes) == net
    state = published(
        "facebook_detr", {k: np.broadcast_to(np.float32(1), v) for k, v in shapes.items()}
    )
    assert FACEBOOK.to_native(state).description == {
        "name": f"detr_r{depth}",
        "arguments": {
            "num_classes": 7,
            "num_queries": 9,
            "width": 24,
            "feedforward": 40,
            "encoder_layers": 3,
            "decoder_layers": 1,
        },
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_training_checkpoints_of_facebook(tmp_path: Path, legacy: bool) -> None:
    torch = pytest.importorskip("torch")
    arrays = native()
    args: dict[str, Any] = {
        **{"nheads": 4, "dropout": 0.2, "aux_loss": False, "set_cost_class": 2, "eos_coef": 0.3},
        **{"lr_backbone": 0.0, "dilation": False, "backbone": "resnet18", "num_queries": 5},
        **{"position_embedding": "sine", "pre_norm": False, "output_dir": "", "device": "cuda"},
    }
    state = published("facebook_detr", arrays)
    tree = {
        "model": {name: torch.from_numpy(array.copy()) for name, array in state.items()},
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(4)}}, "param_groups": []},
        "lr_scheduler": {"step_size": 200, "last_epoch": 3},
        "epoch": 3,
        "args": argparse.Namespace(**args),
    }
    path = tmp_path / "checkpoint.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=not legacy)
    found = read_published(path)
    assert found.family == "facebook_detr"
    same(found.checkpoint.arrays, arrays)
    model = found.checkpoint.model
    expected = {
        **{"heads": 4, "dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2},
        **{"input_dropout": 0.0, "auxiliary_losses": False, "cost_class": 2, "eos_coef": 0.3},
        **{"frozen_stages": 4, "cost_giou": 2.0, "num_classes": 3},
    }
    assert model["name"] == "detr_r18"
    assert {key: model["arguments"][key] for key in expected} == expected
    assert any("args say no dilation" in note for note in found.report.notes)
    assert inspect_checkpoint(path).conventions["attention"].startswith("4 heads")


def test_what_a_bare_file_does_not_say(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", {"model": published("facebook_detr", native())})
    found = read_published(tmp_path / "a.pth")
    assert found.checkpoint.model["arguments"]["heads"] == 8
    for said in ("how many heads its attention has: taken for 8", "say facebook_detr_dc5"):
        assert any(said in note for note in found.report.notes)
    with pytest.raises(CheckpointError, match=r"dilated last stage.*50 layers or more"):
        read_published(tmp_path / "a.pth", family="facebook_detr_dc5")
    write_torch(tmp_path / "pytorch_model.bin", published("huggingface_detr", native()))
    found = read_published(tmp_path)  # the folder
    assert found.checkpoint.model["name"] == "detr_r18_huggingface"
    assert any("no config.json beside the file" in note for note in found.report.notes)


def test_published_labels_are_cocos_ids(tmp_path: Path, sample_data: Path) -> None:
    write_torch(tmp_path / "a.pth", {"model": hollow(sample_data, "fb_detr_r50")})
    found = read_published(tmp_path / "a.pth").checkpoint
    assert found.class_names == ("N/A", *COCO_SLOTS[1:])
    assert found.model["arguments"]["class_names"][90] == "toothbrush"


def test_config_of_hugging_face_is_kept(tmp_path: Path) -> None:
    arrays = native()
    folder = huggingface_folder(tmp_path / "hub", published("huggingface_detr", arrays))
    import_checkpoint(folder, tmp_path / "a.safetensors")
    found = load_checkpoint(tmp_path / "a.safetensors")
    expected = {
        **{"heads": 4, "dropout": 0.2, "input_dropout": 0.2, "attention_dropout": 0.3},
        **{"activation_dropout": 0.0, "auxiliary_losses": True, "renormalise": True},
        **{"cost_class": 2},
        **{"cost_bbox": 4.5, "cost_giou": 3, "weight_bbox": 6, "weight_giou": 2.5},
        **{"eos_coef": 0.2, "num_queries": 5, "frozen_stages": -1},
    }
    assert found.model["name"] == "detr_r18_huggingface"
    assert {key: found.model["arguments"][key] for key in expected} == expected
    assert found.class_names == ("cat", "dog", "cow")
    (tmp_path / "back").mkdir()
    report = export_checkpoint(
        tmp_path / "a.safetensors", tmp_path / "back", family="huggingface_detr"
    )
    assert not any("must be told" in note or "cannot say" in note for note in report.notes)
    wanted = [
        note.split(" for ")[1].split(".")[0]
        for note in report.notes
        if "wants a whole number" in note
    ]
    assert wanted == ["bbox_cost", "giou_loss_coefficient"]
    back = tmp_path / "back" / "model.safetensors"
    assert back.read_bytes() == (folder / "model.safetensors").read_bytes()
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert {key: written[key] for key in CONFIG} == CONFIG
    assert written["label2id"] == {"cat": 0, "dog": 1, "cow": 2}


DEEP = DETRShape(**{**vars(SMALL), "depth": 50})


@pytest.mark.parametrize(
    "dilation", [{"dilation": True}, {"backbone_config": {"output_stride": 16}}]
)
def test_dilation_is_in_the_config(dilation: dict[str, Any]) -> None:
    state = published("huggingface_detr", native(DEEP))
    mapped = HUGGINGFACE.to_native(state, extras={"config.json": dilation})
    assert mapped.description["name"] == "detr_r50_dc5_huggingface"
    shallow = published("huggingface_detr", native())
    with pytest.raises(CheckpointError, match="50 layers or more"):
        HUGGINGFACE.to_native(shallow, extras={"config.json": dilation})


def test_dilation_is_in_the_args(tmp_path: Path) -> None:
    state = published("facebook_detr", native(DEEP))
    for metadata, family in ((True, "facebook_detr_dc5"), (False, "facebook_detr")):
        found = detect_family(state, extras={"args": {"dilation": metadata}})
        assert found.name == family
    write_torch(tmp_path / "a.pth", {"model": state, "args": {"dilation": True}})
    assert read_published(tmp_path / "a.pth").checkpoint.model["name"] == "detr_r50_dc5"
    # The user's word counts, and is doubted.
    asked = read_published(tmp_path / "a.pth", family="facebook_detr")
    assert asked.checkpoint.model["name"] == "detr_r50"
    assert any("suspicious: facebook_detr was asked for" in n for n in asked.report.notes)


@pytest.mark.parametrize("family", ["facebook_detr", "facebook_detr_dc5", "huggingface_detr"])
def test_what_nobody_else_dilates_is_not_written(tmp_path: Path, family: str) -> None:
    model = create_model("detr_r18_dc5", backend=available()[0], seed=None, num_queries=5)
    save_checkpoint(tmp_path / "a.safetensors", model)
    target = tmp_path / "out" / "model.safetensors"
    target.parent.mkdir()
    with pytest.raises((CheckpointError, UserError), match=r"50 layers or more|detr_r18_dc5"):
        export_checkpoint(tmp_path / "a.safetensors", target, family=family)
    assert not list(target.parent.iterdir())


def test_transformers_own_backbone_does_not_dilate(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", {"model": published("facebook_detr", native(DEEP))})
    import_checkpoint(tmp_path / "a.pth", tmp_path / "a.safetensors", family="facebook_detr_dc5")
    (tmp_path / "hf").mkdir()
    target = tmp_path / "hf/model.safetensors"
    with pytest.raises(CheckpointError, match="does not dilate"):
        export_checkpoint(
            tmp_path / "a.safetensors", target, family="huggingface_detr", form="file_resnet"
        )
    assert not list(target.parent.iterdir())


def test_facebooks_file_becomes_a_folder_of_hugging_face(tmp_path: Path) -> None:
    arrays, one, two = native(), tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    state = published("facebook_detr", arrays)
    save_as_torch_does(tmp_path / "a.pth", {"model": state})
    import_checkpoint(tmp_path / "a.pth", one, class_names=("cat", "dog", "cow"))
    weights = tmp_path / "hf" / "model.safetensors"
    weights.parent.mkdir()
    report = export_checkpoint(one, weights, family="huggingface_detr")
    # Theirs comes with another decoder.
    assert any("cannot say auxiliary_losses True" in note for note in report.notes)
    assert read_container(weights)[1].metadata == {"format": "pt"}
    config = json.loads((weights.parent / "config.json").read_text())
    expected = {
        **{"model_type": "detr", "backbone": "resnet18", "dilation": False, "d_model": 16},
        **{"auxiliary_loss": False, "attention_dropout": 0.1, "encoder_attention_heads": 8},
        **{"use_pretrained_backbone": False, "id2label": {"0": "cat", "1": "dog", "2": "cow"}},
    }
    assert {key: config[key] for key in expected} == expected
    kinds = {key: type(config[key]) for key in ("class_cost", "giou_cost", "eos_coefficient")}
    assert list(kinds.values()) == [int, int, float]  # transformers 5 insists
    import_checkpoint(weights.parent, two)
    found = load_checkpoint(two)
    same(found.arrays, arrays)
    assert found.model["arguments"]["auxiliary_losses"] is False
    assert found.model["arguments"]["renormalise"] is False
    export_checkpoint(two, tmp_path / "b.pth", family="facebook_detr")
    content, _ = read_container(tmp_path / "b.pth")
    assert list(content) == ["model"]
    same(content["model"], state)
    same(model_and_weights(weights.parent)[1], arrays)


def test_other_families_conventions_are_not_written(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", {"model": published("facebook_detr", native(DEEP))})
    import_checkpoint(tmp_path / "a.pth", tmp_path / "a.safetensors", family="facebook_detr_dc5")
    with pytest.raises(UserError, match="Its family is facebook_detr_dc5"):
        export_checkpoint(tmp_path / "a.safetensors", tmp_path / "b.pth", family="facebook_detr")
    (tmp_path / "hf").mkdir()
    export_checkpoint(tmp_path / "a.safetensors", tmp_path / "hf", family="huggingface_detr")
    assert json.loads((tmp_path / "hf/config.json").read_text())["dilation"] is True
    assert read_published(tmp_path / "hf").checkpoint.model["name"] == "detr_r50_dc5_huggingface"


@pytest.mark.parametrize("existing", ["config.json", "model.safetensors"])
def test_nothing_is_overwritten_by_halves(tmp_path: Path, existing: str) -> None:
    write_torch(tmp_path / "a.pth", {"model": published("facebook_detr", native())})
    import_checkpoint(tmp_path / "a.pth", tmp_path / "a.safetensors")
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / existing).write_text("mine")
    options = {"family": "huggingface_detr"}
    with pytest.raises(UserError, match=f"{existing}, which exists"):
        export_checkpoint(tmp_path / "a.safetensors", folder, **options)
    assert [path.name for path in folder.iterdir()] == [existing]
    assert (folder / existing).read_text() == "mine"
    export_checkpoint(tmp_path / "a.safetensors", folder, overwrite=True, **options)
    assert read_published(folder).report.ok


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = native()
    folder = huggingface_folder(tmp_path / "hub", published("huggingface_detr", arrays))
    assert main(["convert", "inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    for part in (
        *("huggingface_detr", "detr_r18_huggingface", "3 slots, no object last", "4 heads"),
        *("3 classes: cat, dog, cow", "rule of detr"),
    ):
        assert part in text
    one, back = tmp_path / "a.safetensors", tmp_path / "b.pth"
    assert main(["convert", "import", str(folder), str(one)]) == 0
    assert main(["convert", "inspect", str(one)]) == 0
    assert main(["convert", "export", str(one), str(back), "--to", "facebook_detr"]) == 0
    assert "the reader must be told: heads 4 (published: 8)" in capsys.readouterr().out
    same(find_state(read_container(back)[0]).arrays, published("facebook_detr", arrays))


@pytest.mark.parametrize("family", ["facebook_detr", "huggingface_detr"])
def test_a_change_of_classes_starts_the_classifier_alone_afresh(
    tmp_path: Path, backend: str, family: str
) -> None:
    from unidet.backends import nn
    from unidet.engine.setup import load_initial_weights
    from unidet.models import create_model

    path = tmp_path / "a.pth"
    many = native(DETRShape(**{**vars(SMALL), "num_classes": 91}))
    write_torch(path, published(family, many))
    sizes = {key: value for key, value in vars(SMALL).items() if key != "depth"}
    model = create_model("detr_r18", backend=backend, **sizes)
    fresh = {k: np.array(v) for k, v in nn.state_arrays(model).items() if "class_embed" in k}
    line = load_initial_weights(model, str(path))
    assert line.endswith("of another shape, so fresh: class_embed.weight, class_embed.bias")
    after = nn.state_arrays(model)
    same({k: np.asarray(after[k]) for k in fresh}, fresh)
    same(
        {k: np.asarray(v) for k, v in after.items() if k not in fresh},
        {k: v for k, v in many.items() if k not in fresh},
    )


def test_half_precision_comes_back(tmp_path: Path) -> None:
    arrays = {name: array.astype(np.float16) for name, array in native().items()}
    state = {
        name: array.astype(np.float16)
        for name, array in published("huggingface_detr", native()).items()
    }
    mapped = HUGGINGFACE.to_native(state)
    assert all(array.dtype == np.float32 for array in mapped.arrays.values())
    same(HUGGINGFACE.from_native(mapped.arrays, float16_names=mapped.float16_names)[0], state)
    assert set(mapped.float16_names) == set(arrays)
    with pytest.raises(StateMismatchError, match="another model's"):
        HUGGINGFACE.to_native({**state, "model.encoder.layernorm.weight": np.zeros(16)})
    with pytest.raises(CheckpointError, match="another DETR of Hugging Face"):
        detect_family({**state, "model.encoder.layernorm.weight": np.zeros(16)})
