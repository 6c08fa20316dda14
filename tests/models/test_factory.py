from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.backends import available, nn
from unidet.data.preprocess import Preprocess
from unidet.errors import UserError
from unidet.models import MODELS, create_model, model_spec
from unidet.models.arguments import KINDS, plain
from unidet.models.classifier import ResNetClassifier
from unidet.models.clip import CLIP, CLIPVisual
from unidet.models.detr import DETR
from unidet.models.factory import check_arguments
from unidet.models.faster_rcnn import FasterRCNN, FastRCNN
from unidet.models.retinanet import RetinaNet
from unidet.models.retinanet.presets import PRESETS_BY_NAME
from unidet.models.unidetector import CLN, UniDetector, UniDetectorStage2

COUNTS = {
    "retinanet_r18_fpn_yhenon": ({"num_classes": 5}, 19_854_225),
    "retinanet_r50_fpn_yhenon": ({"num_classes": 5}, 36_412_817),
    "retinanet_r50_fpn_mmdet": ({}, 37_968_692),
    "retinanet_r50_fpn_torchvision_v1": ({}, 34_014_999),
    "retinanet_r50_fpn_torchvision_v2": ({}, 38_198_935),
    "resnet50": ({}, 25_557_032),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_parameter_counts(backend: str, name: str) -> None:
    arguments, expected = COUNTS[name]
    model = create_model(name, backend=backend, seed=None, **arguments)
    assert sum(int(np.prod(p.shape)) for p in nn.parameters(model).values()) == expected


def test_shipped_names() -> None:
    for depth in (18, 34, 50, 101, 152):
        assert f"retinanet_r{depth}_fpn" in MODELS
        assert f"resnet{depth}" in MODELS
    shipped = [name for name in MODELS if name.startswith(("retinanet_r", "resnet"))]
    assert len(shipped) == 5 * (len(PRESETS_BY_NAME) + 1)


PRESETS = json.loads(Path(__file__).with_name("presets.json").read_text())


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_has_moved(name: str) -> None:
    """Trained weights need every value as it was; the file was written before the presets."""
    spec, expected = model_spec(name), dict(PRESETS[name])
    values = spec.constructor.config_class(**spec.defaults).to_dict()
    for each in (values, expected):
        each["preprocess"] = Preprocess.from_dict(each["preprocess"]).to_dict()
    assert {key: values[key] for key in expected} == plain(expected)
    assert set(spec.accepts) - {"class_names", "num_classes"} <= set(expected)


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        (RetinaNet, "retinanet_r18_fpn", {"num_classes": 3, "depth": 18}),
        (FasterRCNN, "faster_rcnn_r18_fpn", {"num_classes": 3, "depth": 18}),
        (FastRCNN, "fast_rcnn_r18_fpn", {"num_classes": 3, "depth": 18}),
        (DETR, "detr_r18", {"num_classes": 3, "depth": 18}),
        (UniDetector, "unidetector_e2e_r50_c4", {"num_classes": 3}),
        (UniDetectorStage2, "unidetector_stage2_r50_c4", {"num_classes": 3}),
        (CLN, "unidetector_cln_r18_fpn", {"depth": 18}),
        (ResNetClassifier, "resnet18", {"depth": 18}),
        (CLIP, "clip_rn50", {}),
        (CLIPVisual, "clip_rn50_visual", {}),
    ],
)
def test_a_class_with_its_defaults_is_the_default_preset(
    kind: Any, name: str, arguments: dict[str, Any]
) -> None:
    backend = available()[0]
    given = {key: value for key, value in arguments.items() if key != "depth"}
    named = create_model(name, backend=backend, seed=None, **given)
    with nn.initial_seed(None):
        made = kind(**arguments, backend=backend)
        same = kind(kind.config_class(**arguments), backend=backend)
    assert named.config == made.config == same.config
    assert nn.shapes(named) == nn.shapes(made)


def test_a_model_class_shows_its_arguments() -> None:
    shown = inspect.signature(RetinaNet).parameters
    assert {"num_classes", "head_norm", "backend"} <= set(shown)
    assert shown["head_norm"].default == "group"


def test_every_argument_is_declared_in_full() -> None:
    for spec in MODELS.values():
        for name, about in spec.constructor.config_class.about().items():
            assert about.kind in KINDS and about.meaning and not about.meaning.endswith("."), name


def test_config_rebuilds_the_model(backend: str) -> None:
    model = create_model(
        "retinanet_r18_fpn_mmdet",
        backend=backend,
        num_classes=2,
        class_names=("a", "b"),
        fpn_channels=16,
        anchor_sizes=[16, 32, 64, 128, 256],
        preprocess={"min_size": 128},
    )
    text = json.dumps(model.config)
    config = json.loads(text)
    again = create_model(config["name"], backend=backend, **config["arguments"])
    assert json.dumps(again.config) == text
    assert again.class_names == ("a", "b")
    assert again.preprocess == model.preprocess
    assert (model.preprocess.min_size, model.preprocess.max_size) == (128, 1333)
    first, second = nn.state_arrays(model), nn.state_arrays(again)
    assert list(first) == list(second)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert not model.training


def test_classifier_config_rebuilds_it() -> None:
    backend = "torch" if "torch" in sys.modules else None
    model = create_model("resnet18", backend=backend, seed=None, num_classes=7, frozen_stages=1)
    config = model.config
    assert config["arguments"]["num_classes"] == 7 and config["arguments"]["frozen_stages"] == 1
    again = create_model(config["name"], backend=backend, seed=None, **config["arguments"])
    assert again.fc.weight.shape[0] == 7


def test_weights_do_not_depend_on_the_backend(both: None) -> None:
    for name in ("retinanet_r18_fpn", "retinanet_r18_fpn_yhenon", "retinanet_r18_fpn_mmdet"):
        arguments = {"num_classes": 2, "fpn_channels": 32, "seed": 5}
        a = nn.state_arrays(create_model(name, backend="torch", **arguments))
        b = nn.state_arrays(create_model(name, backend="jittor", **arguments))
        assert list(a) == list(b)
        assert all(np.array_equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


def test_starting_weights(backend: str) -> None:
    ours = nn.state_arrays(
        create_model("retinanet_r18_fpn", backend=backend, num_classes=3, head_norm=None)
    )
    assert np.allclose(ours["head.cls_out.bias"], -4.59512, atol=1e-5)
    assert ours["head.cls_tower.2.conv.weight"].std() == pytest.approx(0.01, rel=0.02)
    assert not ours["head.box_out.bias"].any() and not ours["neck.output.1.bias"].any()
    assert (ours["backbone.bn1.weight"] == 1).all() and (
        ours["backbone.bn1.running_var"] == 1
    ).all()
    he = np.sqrt(2 / (9 * 256))
    assert ours["backbone.layer3.1.conv1.weight"].std() == pytest.approx(he, rel=0.02)
    peer = nn.state_arrays(create_model("retinanet_r18_fpn_yhenon", backend=backend, num_classes=3))
    assert not peer["head.cls_out.weight"].any() and not peer["head.box_out.weight"].any()
    assert peer["head.cls_tower.2.conv.weight"].std() == pytest.approx(he, rel=0.02)
    assert 0 < np.abs(peer["head.cls_tower.2.conv.bias"]).max() <= 1 / np.sqrt(9 * 256)
    other = nn.state_arrays(
        create_model("retinanet_r18_fpn", backend=backend, num_classes=3, seed=1, head_norm=None)
    )
    assert not np.array_equal(ours["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_misspelt_names_are_suggested() -> None:
    with pytest.raises(UserError, match="Did you mean 'retinanet_r18_fpn'"):
        create_model("retinanet_r18_fnp")
    with pytest.raises(UserError, match="Did you mean 'num_classes'"):
        create_model("retinanet_r18_fpn", num_clases=3)
    with pytest.raises(UserError, match="depth"):
        create_model("retinanet_r18_fpn", depth=50)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 0},
        {"class_names": ["one"]},
        {"prior": 1.0},
        {"box_loss": "giuo"},
        {"norm": "group"},
        {"frozen_stages": 7},
        {"head_groups": 7},
        {"box_std": [1.0, 1.0]},
        {"anchor_strides": [8, 16]},
        {"positive_iou": 0.2},
        {"preprocess": {"resize": "guess"}},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_bad_arguments_are_named(arguments: dict) -> None:
    from unidet.backends import available

    key = next(iter(arguments))
    name = {"preprocess": "resize", "anchor_strides": "anchor_sizes"}.get(key, key)
    with pytest.raises(ValueError, match=name):
        create_model("retinanet_r18_fpn", backend=available()[0], seed=None, **arguments)


def test_listing_models_imports_no_framework() -> None:
    code = (
        "import sys, unidet.models as m; assert len(m.MODELS) > 5; "
        "print(sorted({'torch', 'jittor'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_arguments_are_checked_without_making_a_model() -> None:
    for name in MODELS:
        check_arguments(name, {})
    check_arguments("retinanet_r18_fpn", {"class_names": ["a", "b"], "box_loss": "giou"})
    for name, arguments, message in (
        ("retinanet_r19_fpn", {}, "retinanet_r18_fpn"),
        ("retinanet_r18_fpn", {"box_los": "giou"}, "Did you mean 'box_loss'"),
        ("retinanet_r18_fpn", {"prior": "much"}, "Expected a number"),
        ("retinanet_r18_fpn", {"box_loss": "gIou"}, "Did you mean 'giou'"),
        ("faster_rcnn_r50_fpn", {"rpn_convs": 0}, "1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            check_arguments(name, arguments)
