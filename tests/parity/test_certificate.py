"""Certificates of a small model: what passes, what fails, and what is named."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.backends import available, nn, ops
from unidet.certificate import Certificate, read_certificate
from unidet.certificate.certify import build, certify, check, fixed_batch, record
from unidet.checkpoints.native import save_checkpoint
from unidet.cli.main import main
from unidet.errors import UserError
from unidet.models import create_model

#: Tests of one side against itself need either framework, no matter which.
HERE = available()[0]
CONFIG = {
    "name": "retinanet_r18_fpn",
    "arguments": {
        "num_classes": 3,
        "fpn_channels": 16,
        "head_channels": 16,
        "head_depth": 1,
        "head_groups": 4,
        "score_threshold": 0.001,
    },
}


@functools.lru_cache
def _weights() -> dict[str, np.ndarray]:
    """Seeded weights whose scores are spread out, so that detections are kept."""
    model = create_model(CONFIG["name"], backend=HERE, **CONFIG["arguments"])
    arrays = nn.state_arrays(model)
    rng = np.random.default_rng(3)
    shape = arrays["head.cls_out.weight"].shape
    arrays["head.cls_out.weight"] = rng.normal(0, 0.5, shape).astype(np.float32)
    return arrays


def _against(tmp_path: Path, change: Callable[[Any], None], gradients: bool = False) -> Certificate:
    """A certificate of a model against itself after a change."""
    arrays = _weights()
    reference = build(CONFIG, arrays, HERE)
    batch = fixed_batch(reference, size=(64, 96))
    record(reference, batch, tmp_path / "side.npz", config=CONFIG, gradients=gradients)
    candidate = build(CONFIG, arrays, HERE)
    change(candidate)
    return check(candidate, tmp_path / "side.npz")


def _scale_weight(name: str, factor: float) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        arrays = nn.state_arrays(model)
        nn.load_arrays(model, {**arrays, name: arrays[name] * np.float32(factor)})

    return change


def test_two_backends_agree(both: None, tmp_path: Path) -> None:
    certificate = certify(CONFIG, _weights())
    assert certificate.failures() == []
    assert certificate.passed
    assert (certificate.reference, certificate.candidate) == ("torch", "jittor")
    assert len(certificate.layers) > 60
    assert certificate.layers[0].name == "backbone.conv1"
    assert max(layer.max_abs for layer in certificate.layers) > 0, "both sides are one framework"
    assert {loss.name for loss in certificate.losses} == {"loss_cls", "loss_box"}
    assert all(loss.reference > 0 for loss in certificate.losses)
    assert len(certificate.gradients) == len(nn.parameters(build(CONFIG, None, HERE)))
    assert sum(d.matched for d in certificate.detections) > 10
    assert {"torch", "jittor", "numpy"} <= set(certificate.versions)
    path = certificate.save(tmp_path / "small.parity.json")
    assert json.loads(path.read_text())["verdict"] == "PASS"


def test_same_model_has_no_difference(tmp_path: Path) -> None:
    certificate = _against(tmp_path, lambda model: None, gradients=True)
    assert certificate.passed
    assert certificate.first_departure is None
    assert max(layer.max_abs for layer in certificate.layers) == 0
    assert min(g.cosine for g in certificate.gradients) == pytest.approx(1)
    assert all(w.ok and len(w.reference) == 64 for w in certificate.weights)


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        ("backbone.layer2.0.conv1.weight", "backbone.layer2.0.conv1"),
        ("backbone.layer1.1.bn2.weight", "backbone.layer1.1.bn2"),
        ("head.box_out.weight", "head.box_out"),
    ],
)
def test_a_changed_weight_fails_and_names_its_layer(
    tmp_path: Path, weight: str, layer: str
) -> None:
    certificate = _against(tmp_path, _scale_weight(weight, 1.01))
    assert certificate.verdict == "FAIL"
    assert certificate.first_departure == layer
    assert [w.name for w in certificate.weights if not w.ok] == [weight]


def test_a_tiny_change_of_a_weight_fails_by_its_hash(tmp_path: Path) -> None:
    certificate = _against(tmp_path, _scale_weight("backbone.conv1.weight", 1 + 2e-7))
    assert certificate.first_departure is None
    assert certificate.failures() == [
        f"weights: 1 of {len(certificate.weights)} differ, the first is backbone.conv1.weight"
    ]


def test_a_wrong_operation_fails_with_equal_weights(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        modules = dict(model.named_modules())
        modules["backbone.maxpool"].register_forward_hook(lambda m, i, output: output * 1.001)

    certificate = _against(tmp_path, change)
    assert all(w.ok for w in certificate.weights)
    assert certificate.first_departure == "backbone.maxpool"
    assert not certificate.passed


def test_a_wrong_gradient_fails_with_an_equal_forward(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        modules = dict(model.named_modules())

        def half(module: Any, inputs: Any, output: Any) -> Any:
            # Same value, half the gradient.
            return output * 0.5 + ops.detach(output) * 0.5

        modules["backbone.layer3"].register_forward_hook(half)

    certificate = _against(tmp_path, change, gradients=True)
    assert certificate.first_departure is None
    assert all(loss.ok for loss in certificate.losses)
    wrong = {g.name for g in certificate.gradients if not g.ok}
    assert "backbone.layer1.0.conv1.weight" in wrong
    assert "head.cls_out.weight" not in wrong
    assert not certificate.passed


def test_a_layer_that_runs_on_one_side_alone_is_noted(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.backbone.maxpool = nn.Identity(backend=HERE)

    certificate = _against(tmp_path, change)
    assert not certificate.passed
    assert f"layer backbone.maxpool exists on {HERE} alone" in certificate.failures()
    first = next(layer for layer in certificate.layers if not layer.ok)
    assert first.name == "backbone.layer1.0.conv1"
    assert "in place of" in first.note


def test_training_state_of_the_model_is_left_alone(tmp_path: Path) -> None:
    model = build(CONFIG, _weights(), HERE)
    model.train()
    before = nn.state_arrays(model)
    record(model, fixed_batch(model, size=(64, 96)), tmp_path / "side.npz")
    assert model.training
    after = nn.state_arrays(model)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


def test_certificate_comes_back_from_its_file(tmp_path: Path) -> None:
    failed = _against(tmp_path, _scale_weight("backbone.conv1.weight", np.inf))
    path = failed.save(tmp_path / "deep" / "x.parity.json")
    back = read_certificate(path)
    assert back.to_dict() == failed.to_dict()
    assert back.verdict == "FAIL"
    content = json.loads(path.read_text())
    content["verdict"] = "PASS"
    path.write_text(json.dumps(content))
    assert read_certificate(path).verdict == "FAIL", "the verdict was believed, not worked out"


@pytest.mark.parametrize("text", ["{}", "[", '{"format": "other"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.parity.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.parity\.json"):
        read_certificate(path)
    with pytest.raises(UserError, match="recording"):
        check(None, path)


def test_an_empty_comparison_does_not_pass() -> None:
    assert not Certificate(None, "torch", "jittor").passed


def test_fixed_batch_is_the_same_every_time() -> None:
    model = build(CONFIG, None, HERE)
    first, second = fixed_batch(model), fixed_batch(model)
    np.testing.assert_array_equal(first.images, second.images)
    assert (fixed_batch(model, seed=1).images != first.images).any()
    assert first.image_sizes[0] != first.image_sizes[1]
    assert all(0 <= t.labels.min() <= t.labels.max() < 3 for t in first.targets)
    assert all((t.boxes_xyxy[:, 2:] > t.boxes_xyxy[:, :2]).all() for t in first.targets)


def test_command_records_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = _weights()
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_checkpoint(good, build(CONFIG, arrays, HERE))
    name = "neck.lateral.0.weight"
    changed = {**arrays, name: arrays[name] * np.float32(1.5)}
    save_checkpoint(bad, build(CONFIG, changed, HERE))
    side = str(tmp_path / "side.npz")
    assert main(["parity", str(good), "--record", side, "--backend", HERE]) == 0
    out = str(tmp_path / "c.parity.json")
    assert main(["parity", str(good), "--check", side, "--backend", HERE, "--json", out]) == 0
    assert "PASS" in capsys.readouterr().out
    assert json.loads(Path(out).read_text())["verdict"] == "PASS"
    assert main(["parity", str(bad), "--check", side, "--backend", HERE]) == 1
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert "first layer that departs: neck.lateral.0" in printed


@pytest.mark.parametrize("side", ["torch:gpu", "jittor:0"])
def test_devices_that_do_not_exist_are_named(side: str) -> None:
    with pytest.raises(ValueError, match=f"backends.*{side!r}"):
        build(CONFIG, None, side)


def test_a_missing_gpu_is_said(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    if backend == "torch" and __import__("torch").cuda.is_available():
        pytest.skip("there is one")
    words = ["parity", "retinanet_r18_fpn", "--no-gradients", "--backends", f"{backend}:cuda,torch"]
    assert main(words) == 2
    assert "Expected 'cpu'" in capsys.readouterr().err
