"""Faster R-CNN against the outputs of the peers it reproduces.

Everything behind the proposals is compared on the peer's proposals; the model's own are compared
with them as sets.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden, as_targets, losses_and_norms, matched_share, padded_batch
from unidet.backends import backend_of, nn, ops
from unidet.models import create_model
from unidet.models.faster_rcnn.roi_levels import roi_levels
from unidet.structures import Batch, Detections
from unidet.weights_convert import FAMILIES
from unidet.weights_convert.families.rename import Table, rename

#: A quota that no population reaches, so that nothing is drawn.
ALL = {"rpn_batch": 10**7, "roi_batch": 10**7, "roi_positive_fraction": 0.5}


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    gc.collect()


def build(golden: Golden, family: str, name: str, backend: str, **changes: Any) -> tuple:
    """The model that the peer's file is imported as, with its weights, and the table of names."""
    state = golden.state()
    chosen = FAMILIES[family]
    mapped = chosen.to_native(state)
    assert mapped.description["name"] == name
    arguments = {**mapped.description["arguments"], **changes}
    model = create_model(name, backend=backend, seed=None, **arguments)
    nn.load_arrays(model, mapped.arrays)
    total = sum(int(np.prod(ops.shape(p))) for p in nn.parameters(model).values())
    assert total == golden.meta["parameters"] or "mmdet" in family
    return model, chosen.form_of({key: value.shape for key, value in state.items()}).table


class Run:
    """One forward pass in evaluation mode, with what happened on the way."""

    def __init__(self, model: Any, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.seen: dict[str, list[np.ndarray]] = {}
        parts = {"stages": model.backbone, "levels": model.neck}
        handles = [
            part.register_forward_hook(self._keep(name))
            for name, part in parts.items()
            if part is not None
        ]
        with ops.no_grad():
            images = ops.asarray(batch.images, backend=backend_of(model))
            self.outputs = model(images, image_sizes=batch.image_sizes)
        for handle in handles:
            handle.remove()

    def _keep(self, name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            values = output if isinstance(output, tuple) else (output,)
            self.seen[name] = [ops.to_numpy(value) for value in values]

        return hook

    def rpn_levels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Logits and deltas of each level, channels last: ``(N, h, w, k)``."""
        found, start = [], 0
        per_cell = self.model.anchors.per_cell
        for height, width in self.outputs["layout"][1]:
            stop = start + height * width * per_cell
            parts = []
            for key, depth in (("rpn_logits", per_cell), ("rpn_deltas", per_cell * 4)):
                level = ops.to_numpy(self.outputs[key])[:, start:stop]
                parts.append(level.reshape(len(level), height, width, depth))
            found.append(tuple(parts))
            start = stop
        return found

    def second_stage(self, proposals: list[np.ndarray]) -> dict[str, Any]:
        """What the head makes of given proposals: regions, vectors and outputs."""
        model, features = self.model, self.outputs["features"]
        rois = np.concatenate(proposals).astype(np.float32)
        images = np.repeat(np.arange(len(proposals)), [len(one) for one in proposals])
        with ops.no_grad():
            regions = model.roi_features(features, rois, images)
            vectors = model.head.features(regions)
            answers = model.classify(features, [one.astype(np.float32) for one in proposals])
        return {"regions": regions, "vectors": vectors, **answers}

    def detections(self, answers: dict[str, Any], proposals: list[np.ndarray]) -> list[Detections]:
        outputs = {**answers, "proposals": [one.astype(np.float32) for one in proposals]}
        return self.model.predict(outputs, self.batch)


def check_detections(golden: Golden, found: list[Detections]) -> None:
    for i, one in enumerate(found):
        assert len(one) == len(rows_of(golden, i)[0])
        assert matched_share(one, *rows_of(golden, i)) >= 0.98


def check_proposals(
    own: np.ndarray, own_scores: np.ndarray, boxes: np.ndarray, scores: np.ndarray | None
) -> None:
    """The same set; nearly equal scores may change places."""
    assert len(own) == len(boxes)
    none = np.zeros(len(own), np.int64)
    values = own_scores if scores is not None else np.zeros_like(own_scores)
    expected = scores if scores is not None else np.zeros(len(boxes))
    share = matched_share(Detections(own, values, none), boxes, expected, np.zeros(len(boxes)))
    assert share >= 0.98
    # In order, too, but for near ties.
    assert (np.abs(own - boxes).max(axis=1) < 0.05).mean() >= 0.9


def check_losses(golden: Golden, found: dict[str, float], names: dict[str, str]) -> None:
    assert set(found) == set(names)
    for name, key in names.items():
        assert found[name] == pytest.approx(float(golden[key].sum()), rel=1e-3), name


def check_gradients(golden: Golden, prefix: str, table: Table, norms: dict[str, float]) -> None:
    keys = [key for key in golden.outputs.files if key.startswith(f"{prefix}/")]
    assert keys
    for key in keys:
        name = rename(key.removeprefix(f"{prefix}/"), table)
        assert norms[name] == pytest.approx(float(golden[key]), rel=5e-3), key


def rows_of(golden: Golden, index: int) -> list[np.ndarray]:
    return [golden[f"det{index}/{key}"] for key in ("boxes", "scores", "labels")]


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
    golden = Golden(
        sample_data, "torchvision_fasterrcnn_resnet50_fpn" + ("_v2" if version == "v2" else "")
    )
    model, table = build(
        golden,
        f"torchvision_fasterrcnn_{version}",
        f"faster_rcnn_r50_fpn_torchvision_{version}",
        backend,
        preprocess={"min_size": 288, "max_size": 480},
        rpn_post_nms_test=300,
        rpn_post_nms_train=200,
        norm_eval=True,
        frozen_stages=-1,
        **ALL,
    )
    batch = torchvision_batch(golden, model)
    golden.check("batch", batch.images)
    run = Run(model, batch)
    for i, array in enumerate(run.seen["stages"]):
        golden.check(f"body{i}", array)
    for key, array in zip(("0", "1", "2", "3", "pool"), run.seen["levels"]):
        golden.check(f"fpn_{key}", array)
    for i, (logits, deltas) in enumerate(run.rpn_levels()):
        golden.check(f"rpn_objectness{i}", logits.transpose(0, 3, 1, 2), atol=2e-3)
        golden.check(f"rpn_deltas{i}", deltas.transpose(0, 3, 1, 2), atol=2e-3)
    given = [golden[f"proposals{i}"] for i in range(2)]
    for i, boxes in enumerate(given):
        outputs = run.outputs
        check_proposals(outputs["proposals"][i], outputs["proposal_scores"][i], boxes, None)
    answers = run.second_stage(given)
    golden.check("roi_features", answers["regions"])
    golden.check("box_head", answers["vectors"])
    golden.check("class_logits", answers["cls_logits"], atol=2e-3)
    golden.check("box_regression", answers["box_deltas"], atol=2e-3)
    for found in (run.detections(answers, given), model.predict(run.outputs, batch)):
        check_detections(golden, found)
    losses, norms = losses_and_norms(model, batch)
    names = {
        "loss_rpn_cls": "loss/loss_objectness",
        "loss_rpn_box": "loss/loss_rpn_box_reg",
        "loss_cls": "loss/loss_classifier",
        "loss_box": "loss/loss_box_reg",
    }
    check_losses(golden, losses, names)
    check_gradients(golden, "gradnorm", table, norms)


# --- mmdetection --------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
def test_mmdet(sample_data: Path, backend: str, style: str) -> None:
    caffe = style == "caffe"
    golden = Golden(sample_data, f"mmdet_faster_rcnn_r50_{'caffe_' * caffe}fpn")
    suffix = "_caffe" * caffe
    model, table = build(
        golden,
        f"mmdet_faster_rcnn{suffix}",
        f"faster_rcnn_r50_fpn_mmdet{suffix}",
        backend,
        rpn_post_nms_test=300,
        rpn_post_nms_train=200,
        preprocess={"resize": "none"},
        **ALL,
    )
    if not caffe:  # frozen norms are no parameters here
        frozen = len(nn.parameters(model)) - len(nn.trainable(model))
        assert frozen == golden.meta["frozen_parameter_tensors"]
    for index in range(2):
        check_mmdet_image(golden, model, table, index)


def check_mmdet_image(golden: Golden, model: Any, table: Table, index: int) -> None:
    pixels, _, _ = model.preprocess.apply(golden.image(index))
    batch = padded_batch([pixels], model.preprocess.pad_size([pixels.shape[1:]]), [(1.25, 1.25)])
    batch.targets = [as_targets(golden[f"target{index}/boxes"], golden[f"target{index}/labels"])]
    golden.check(f"{index}/input", batch.images)
    run = Run(model, batch)
    for i, array in enumerate(run.seen["stages"]):
        golden.check(f"{index}/backbone{i}", array)
    for i, array in enumerate(run.seen["levels"]):
        golden.check(f"{index}/fpn{i}", array)
    for i, (logits, deltas) in enumerate(run.rpn_levels()):
        golden.check(f"{index}/rpn_cls{i}", logits.transpose(0, 3, 1, 2), atol=2e-3)
        golden.check(f"{index}/rpn_reg{i}", deltas.transpose(0, 3, 1, 2), atol=2e-3)
    rows = golden[f"{index}/proposals"]
    outputs = run.outputs
    check_proposals(outputs["proposals"][0], outputs["proposal_scores"][0], rows[:, :4], rows[:, 4])
    given = [np.ascontiguousarray(rows[:, :4])]
    np.testing.assert_array_equal(roi_levels(given[0], "mmdet", 4), golden[f"{index}/roi_levels"])
    answers = run.second_stage(given)
    golden.check(f"{index}/roi_features", answers["regions"])
    golden.check(f"{index}/cls_score", answers["cls_logits"], atol=2e-3)
    golden.check(f"{index}/bbox_pred", answers["box_deltas"], atol=2e-3)
    table_rows = golden[f"det{index}"]
    stored = (table_rows[:, :4], table_rows[:, 4], golden[f"det{index}/labels"])
    for found in (run.detections(answers, given)[0], model.predict(outputs, batch)[0]):
        assert len(found) == len(table_rows)
        assert matched_share(found, *stored) >= 0.98
    losses, norms = losses_and_norms(model, batch)
    names = {
        "loss_rpn_cls": f"loss{index}/loss_rpn_cls",
        "loss_rpn_box": f"loss{index}/loss_rpn_bbox",
        "loss_cls": f"loss{index}/loss_cls",
        "loss_box": f"loss{index}/loss_bbox",
    }
    check_losses(golden, losses, names)
    check_gradients(golden, f"gradnorm{index}", table, norms)


# --- detectron2 ---------------------------------------------------------------------------------


@pytest.mark.slow_on("torch")
@pytest.mark.parametrize("style", ["FPN", "C4"])
def test_detectron2(sample_data: Path, backend: str, style: str) -> None:
    golden = Golden(sample_data, f"detectron2_faster_rcnn_R_50_{style}")
    fpn = style == "FPN"
    model, table = build(
        golden,
        f"detectron2_faster_rcnn{'' if fpn else '_c4'}",
        f"faster_rcnn_r50_{style.lower()}_detectron2",
        backend,
        rpn_post_nms_test=300 if fpn else 200,
        rpn_post_nms_train=200 if fpn else 60,
        preprocess={"resize": "none"},
        **{**ALL, "rpn_batch": golden.meta["loss_changes"]["MODEL.RPN.BATCH_SIZE_PER_IMAGE"]},
    )
    batch = detectron2_batch(golden, model)
    golden.check("batch", batch.images)
    run = Run(model, batch)
    stages = run.seen["stages"]
    for i in range(4) if fpn else (2,):
        golden.check(f"body_res{i + 2}", stages[i])
    for i, array in enumerate(run.seen.get("levels", ())):
        golden.check(f"fpn_p{i + 2}", array)
    for i, (logits, deltas) in enumerate(run.rpn_levels()):
        golden.check(f"rpn_objectness{i}", logits.transpose(0, 3, 1, 2), atol=2e-3)
        golden.check(f"rpn_deltas{i}", deltas.transpose(0, 3, 1, 2), atol=2e-3)
    golden.check("anchors", model.anchors.all_levels(*run.outputs["layout"]), atol=1e-3)
    given = [golden[f"proposals{i}"] for i in range(2)]
    for i, boxes in enumerate(given):
        scores = 1 / (1 + np.exp(-golden[f"proposals{i}/logits"].astype(np.float64)))
        outputs = run.outputs
        check_proposals(outputs["proposals"][i], outputs["proposal_scores"][i], boxes, scores)
    if fpn:
        levels = roi_levels(np.concatenate(given), "detectron2", 4)
        np.testing.assert_array_equal(levels, golden["roi_levels"])
    answers = run.second_stage(given)
    golden.check("roi_features", answers["regions"])
    golden.check("box_features", answers["vectors"])
    golden.check("cls_score", answers["cls_logits"], atol=2e-3)
    golden.check("bbox_pred", answers["box_deltas"], atol=2e-3)
    for found in (run.detections(answers, given), model.predict(run.outputs, batch)):
        check_detections(golden, found)
    losses, norms = losses_and_norms(model, batch)
    names = {
        "loss_rpn_cls": "loss/loss_rpn_cls",
        "loss_rpn_box": "loss/loss_rpn_loc",
        "loss_cls": "loss/loss_cls",
        "loss_box": "loss/loss_box_reg",
    }
    check_losses(golden, losses, names)
    check_gradients(golden, "gradnorm", table, norms)


def detectron2_batch(golden: Golden, model: Any) -> Batch:
    images = [model.preprocess.apply(golden.image(i))[0] for i in range(2)]
    scales = [
        (image.shape[1] / height, image.shape[2] / width)
        for image, (height, width) in zip(images, golden["output_sizes"])
    ]
    size = model.preprocess.pad_size([image.shape[1:] for image in images])
    batch = padded_batch(images, size, scales)
    batch.targets = [
        as_targets(golden[f"target{i}/boxes"], golden[f"target{i}/labels"]) for i in range(2)
    ]
    return batch
