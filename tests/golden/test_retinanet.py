"""RetinaNet against the outputs of the peers it reproduces."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden, as_targets, matched_share, normalised, padded_batch
from unidet.backends import backend_of, nn, ops
from unidet.models import create_model
from unidet.structures import Batch
from unidet.weights_convert import detect_family
from unidet.weights_convert.families.rename import Table, rename


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    gc.collect()


def build(golden: Golden, name: str, backend: str, **arguments: Any) -> tuple[Any, Table]:
    """The model that the peer's file is recognised as, with its weights, and the table of names."""
    state = golden.state()
    family = detect_family(state)
    mapped = family.to_native(state)
    assert mapped.description["name"] == name
    model = create_model(
        name, backend=backend, seed=None, **{**mapped.description["arguments"], **arguments}
    )
    nn.load_arrays(model, mapped.arrays)
    return model, family.form_of({key: value.shape for key, value in state.items()}).table


def run(model: Any, batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs, and the stages and pyramid levels as arrays."""
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            values = output if isinstance(output, tuple) else (output,)
            seen[name] = [ops.to_numpy(value) for value in values]

        return hook

    handles = [
        model.backbone.register_forward_hook(keep("stages")),
        model.neck.register_forward_hook(keep("levels")),
    ]
    with ops.no_grad():
        images = ops.asarray(batch.images, backend=backend_of(model))
        outputs = model(images)
    for handle in handles:
        handle.remove()
    return outputs, seen


def loss_and_gradient_norms(model: Any, batch: Batch) -> tuple[dict[str, float], dict[str, float]]:
    """Losses of a training step, and the l2 norm of every gradient."""
    weights = nn.trainable(model)
    losses: dict[str, Any] = {}

    def total(*_: Any) -> Any:
        outputs = model(ops.asarray(batch.images, backend=backend_of(model)))
        losses.update(model.losses(outputs, batch.targets))
        return losses["loss_cls"] + losses["loss_box"]

    model.train()
    _, gradients = ops.grad(total, list(weights.values()))
    norms = {
        name: float(np.linalg.norm(ops.to_numpy(value).astype(np.float64)))
        for name, value in zip(weights, gradients)
    }
    model.eval()
    return {name: float(ops.item(value)) for name, value in losses.items()}, norms


def check_gradients(golden: Golden, prefix: str, table: Table, norms: dict[str, float]) -> None:
    keys = [key for key in golden.outputs.files if key.startswith(f"{prefix}/")]
    assert keys
    for key in keys:
        name = rename(key.removeprefix(f"{prefix}/"), table)
        assert norms[name] == pytest.approx(float(golden[key]), rel=5e-3), key


# --- yhenon -------------------------------------------------------------------------------------


def yhenon_batch(golden: Golden, index: int) -> Batch:
    image = normalised(golden.image(index))
    size = tuple(side + 32 - side % 32 for side in image.shape[1:])
    batch = padded_batch([image], size)
    if f"annotations{index}" in golden.outputs:
        rows = golden[f"annotations{index}"]
        rows = rows[rows[:, 4] >= 0]
        batch.targets = [as_targets(rows[:, :4], rows[:, 4])]
    return batch


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_yhenon(sample_data: Path, backend: str, depth: int) -> None:
    golden = Golden(sample_data, f"yhenon_retinanet_resnet{depth}")
    model, table = build(golden, f"retinanet_r{depth}_fpn_yhenon", backend)
    assert model.settings.num_classes == golden.meta["num_classes"]
    for index in range(2 if depth == 18 else 1):
        batch = yhenon_batch(golden, index)
        outputs, seen = run(model, batch)
        for stage, array in zip(("layer1", "layer2", "layer3", "layer4"), seen["stages"]):
            golden.check(f"{index}/{stage}", array)
        for level, array in zip(("P3", "P4", "P5", "P6", "P7"), seen["levels"]):
            golden.check(f"{index}/{level}", array)
        probabilities = ops.to_numpy(ops.sigmoid(outputs["cls_logits"]))
        golden.check(f"{index}/classification", probabilities)
        golden.check(f"{index}/regression", outputs["box_deltas"])
        if f"{index}/anchors/sample" in golden.outputs:
            anchors = model.anchors.all_levels(*outputs["layout"])[None]
            golden.check(f"{index}/anchors", anchors, atol=1e-3)
        found = model.predict(outputs, batch)[0]
        assert len(found) == pytest.approx(int(golden[f"det{index}/count"]), rel=5e-3, abs=1)
        rows = [golden[f"det{index}/{key}"] for key in ("boxes", "scores", "labels")]
        best = np.argsort(-found.scores, kind="stable")[: len(rows[0]) + 20]
        assert matched_share(found[best], *rows) >= 0.98
        if batch.targets:
            losses, norms = loss_and_gradient_norms(model, batch)
            expected = golden[f"loss{index}/classification"].item()
            assert losses["loss_cls"] == pytest.approx(expected, rel=1e-3)
            expected = golden[f"loss{index}/regression"].item()
            assert losses["loss_box"] == pytest.approx(expected, rel=1e-3)
            check_gradients(golden, f"gradnorm{index}", table, norms)


# --- torchvision --------------------------------------------------------------------------------


def torchvision_batch(golden: Golden, model: Any) -> Batch:
    from unidet.data.preprocess import Sample

    samples = []
    for index in range(2):
        image = golden.image(index)
        pixels, size, scale = model.preprocess.apply(image)
        assert tuple(size) == tuple(golden["resized_sizes"][index])
        boxes = golden[f"target{index}/boxes"] * np.array([*scale[::-1], *scale[::-1]])
        targets = as_targets(boxes, golden[f"target{index}/labels"])
        samples.append(Sample(pixels, image.shape[:2], scale, targets))
    return model.preprocess.collate(samples)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_torchvision(sample_data: Path, backend: str, version: str) -> None:
    folder = "torchvision_retinanet_resnet50_fpn" + ("_v2" if version == "v2" else "")
    golden = Golden(sample_data, folder)
    model, table = build(
        golden,
        f"retinanet_r50_fpn_torchvision_{version}",
        backend,
        preprocess={"min_size": 288, "max_size": 480},
        norm_eval=True,
        frozen_stages=-1,
    )
    assert (
        sum(np.prod(ops.shape(p)) for p in nn.parameters(model).values())
        == golden.meta["parameters"]
    )
    batch = torchvision_batch(golden, model)
    golden.check("batch", batch.images)
    outputs, seen = run(model, batch)
    for key, array in zip(("body0", "body1", "body2"), seen["stages"][1:]):
        golden.check(key, array)
    for key, array in zip(("fpn_0", "fpn_1", "fpn_2", "fpn_p6", "fpn_p7"), seen["levels"]):
        golden.check(key, array)
    golden.check("cls_logits", outputs["cls_logits"], atol=2e-3)
    golden.check("bbox_regression", outputs["box_deltas"], atol=2e-3)
    golden.check("anchors0", model.anchors.all_levels(*outputs["layout"]), atol=1e-4)
    for index, found in enumerate(model.predict(outputs, batch)):
        rows = [golden[f"det{index}/{key}"] for key in ("boxes", "scores", "labels")]
        assert len(found) == len(rows[0])
        assert matched_share(found, *rows) >= 0.98
    losses, norms = loss_and_gradient_norms(model, batch)
    assert losses["loss_cls"] == pytest.approx(float(golden["loss/classification"]), rel=1e-3)
    assert losses["loss_box"] == pytest.approx(float(golden["loss/bbox_regression"]), rel=1e-3)
    check_gradients(golden, "gradnorm", table, norms)


# --- mmdetection --------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1])
def test_mmdet(sample_data: Path, backend: str, index: int) -> None:
    golden = Golden(sample_data, "mmdet_retinanet_r50_fpn")
    model, table = build(golden, "retinanet_r50_fpn_mmdet", backend)
    image = normalised(golden.image(index))
    batch = padded_batch([image], image.shape[1:], [(1.25, 1.25)])
    batch.targets = [as_targets(golden[f"target{index}/boxes"], golden[f"target{index}/labels"])]
    golden.check(f"{index}/input", batch.images)
    outputs, seen = run(model, batch)
    for i, array in enumerate(seen["stages"]):
        golden.check(f"{index}/backbone{i}", array)
    for i, array in enumerate(seen["levels"]):
        golden.check(f"{index}/fpn{i}", array)
    start = 0
    for i, (height, width) in enumerate(outputs["layout"][1]):
        stop = start + height * width * 9
        for key, ours, depth in (("retina_cls", "cls_logits", 80), ("retina_reg", "box_deltas", 4)):
            level = ops.to_numpy(outputs[ours])[:, start:stop].reshape(1, height, width, 9 * depth)
            golden.check(f"{index}/{key}{i}", level.transpose(0, 3, 1, 2), atol=2e-3)
        start = stop
    golden.check(f"{index}/anchors", model.anchors.all_levels(*outputs["layout"]), atol=1e-3)
    found = model.predict(outputs, batch)[0]
    rows = golden[f"det{index}"]
    assert len(found) == len(rows)
    assert matched_share(found, rows[:, :4], rows[:, 4], golden[f"det{index}/labels"]) >= 0.98
    losses, norms = loss_and_gradient_norms(model, batch)
    assert losses["loss_cls"] == pytest.approx(golden[f"loss{index}/loss_cls"].sum(), rel=1e-3)
    assert losses["loss_box"] == pytest.approx(golden[f"loss{index}/loss_bbox"].sum(), rel=1e-3)
    check_gradients(golden, f"gradnorm{index}", table, norms)
    assert (
        len(nn.parameters(model)) - len(nn.trainable(model))
        == golden.meta["frozen_parameter_tensors"]
    )


# --- detectron2 ---------------------------------------------------------------------------------


def detectron2_batch(golden: Golden, model: Any) -> Batch:
    mean = np.array(model.preprocess.mean, np.float32)
    images = [
        (golden.image(i)[..., ::-1].astype(np.float32) - mean).transpose(2, 0, 1) for i in (0, 1)
    ]
    asked = golden["output_sizes"]
    scales = [(im.shape[1] / h, im.shape[2] / w) for im, (h, w) in zip(images, asked)]
    batch = padded_batch(images, tuple(golden["batch_shape"][-2:]), scales)
    batch.targets = [
        as_targets(golden[f"target{i}/boxes"], golden[f"target{i}/labels"]) for i in (0, 1)
    ]
    return batch


def test_detectron2(sample_data: Path, backend: str) -> None:
    golden = Golden(sample_data, "detectron2_retinanet_R_50_FPN")
    model, table = build(golden, "retinanet_r50_fpn_detectron2", backend)
    parameters = sum(np.prod(ops.shape(p)) for p in nn.parameters(model).values())
    assert parameters == golden.meta["parameters"]
    batch = detectron2_batch(golden, model)
    golden.check("batch", batch.images)
    outputs, seen = run(model, batch)
    for key, array in zip(("body_res3", "body_res4", "body_res5"), seen["stages"][1:]):
        golden.check(key, array)
    for level, array in zip(("p3", "p4", "p5", "p6", "p7"), seen["levels"]):
        golden.check(f"fpn_{level}", array)
    start = 0
    for i, (height, width) in enumerate(outputs["layout"][1]):
        stop = start + height * width * 9
        for key, ours, depth in (("cls_score", "cls_logits", 80), ("bbox_pred", "box_deltas", 4)):
            level = ops.to_numpy(outputs[ours])[:, start:stop].reshape(2, height, width, 9 * depth)
            golden.check(f"{key}{i}", level.transpose(0, 3, 1, 2), atol=2e-3)
        start = stop
    golden.check("anchors", model.anchors.all_levels(*outputs["layout"]), atol=1e-3)
    for index, found in enumerate(model.predict(outputs, batch)):
        rows = [golden[f"det{index}/{key}"] for key in ("boxes", "scores", "labels")]
        assert len(found) == len(rows[0]) < 100  # the cut at 100 comes before empty boxes go
        assert matched_share(found, *rows) >= 0.98
    losses, norms = loss_and_gradient_norms(model, batch)
    assert losses["loss_cls"] == pytest.approx(float(golden["loss/loss_cls"]), rel=1e-3)
    assert losses["loss_box"] == pytest.approx(float(golden["loss/loss_box_reg"]), rel=1e-3)
    divisor = ops.to_numpy(model.loss_divisor)
    assert divisor.tolist() == pytest.approx([float(golden["loss_normalizer_after"])])
    check_gradients(golden, "gradnorm", table, norms)
    model.losses(outputs, batch.targets)  # evaluation mode
    assert ops.to_numpy(model.loss_divisor).tolist() == divisor.tolist()


def test_caffe_style_with_detectron2s_weights(backend: str, sample_data: Path) -> None:
    """mmdetection's caffe style is the same network but for anchor order, a ReLU and clipping."""
    golden = Golden(sample_data, "detectron2_retinanet_R_50_FPN")
    arrays = detect_family(golden.state()).to_native(golden.state()).arrays
    del arrays["loss_divisor"]
    for name in ("cls_out", "box_out"):
        for part in ("weight", "bias"):
            rows = arrays[f"head.{name}.{part}"]
            by_size = rows.reshape(3, 3, -1, *rows.shape[1:])  # size, ratio
            arrays[f"head.{name}.{part}"] = by_size.swapaxes(0, 1).reshape(rows.shape)
    changes = {"extra_relu": True, "clip": "after_nms"}
    model = create_model("retinanet_r50_fpn_mmdet_caffe", backend=backend, seed=None, **changes)
    nn.load_arrays(model, arrays)
    batch = detectron2_batch(golden, model)
    outputs, seen = run(model, batch)
    for level, array in zip(("p3", "p4", "p5", "p6", "p7"), seen["levels"]):
        golden.check(f"fpn_{level}", array)
    for index, found in enumerate(model.predict(outputs, batch)):
        rows = [golden[f"det{index}/{key}"] for key in ("boxes", "scores", "labels")]
        assert len(found) == len(rows[0])
        assert matched_share(found, *rows) >= 0.98
