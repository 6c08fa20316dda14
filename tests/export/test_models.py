"""Exported files give the detections of their models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.support import MODELS, batches, beside, model_of, pictures
from unidet.backends import ops
from unidet.detector import Detector
from unidet.export import OPSETS, OnnxDetector, export_onnx
from unidet.export.write import onnx_bytes


@pytest.mark.parametrize("kind", MODELS)
def test_the_file_detects_what_the_model_detects(kind: str) -> None:
    """Two pictures of different sizes in one file."""
    found = beside(model_of(kind))
    assert all(match.ok for match in found), found
    assert min(match.reference for match in found) > 5


@pytest.mark.parametrize(
    ("kind", "opset"),
    [
        ("retinanet, detectron2", OPSETS[0]),
        ("faster rcnn, detectron2", OPSETS[0]),
        ("end to end", OPSETS[-1]),
    ],
)
def test_other_opsets(kind: str, opset: int) -> None:
    found = beside(model_of(kind), opset=opset)
    assert all(match.ok for match in found), found


@pytest.mark.parametrize("kind", ["retinanet, detectron2", "faster rcnn", "stage 2"])
def test_pictures_without_detections(kind: str) -> None:
    found = beside(model_of(kind, score_threshold=1.0))
    assert [(match.reference, match.candidate) for match in found] == [(0, 0)] * 2


@pytest.mark.parametrize("kind", ["stage 2", "stage 2, calibrated"])
def test_no_proposals(kind: str) -> None:
    model = model_of(kind)
    exported = OnnxDetector(onnx_bytes(model))
    found = exported(pictures()[0], score_threshold=0.0, proposals=np.zeros((0, 5), np.float32))
    assert len(found) == 0 and found.labels.dtype == np.int64


def test_a_picture_without_proposals_of_its_own() -> None:
    """No box of the first stage is large enough."""
    found = beside(model_of("end to end", rpn_min_side=1000.0))
    assert all(match.ok and match.reference == 0 for match in found)


def test_many_proposals_go_through_the_head_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unidet.models.faster_rcnn.export.CHUNK", 16 * 49 * 7)
    found = beside(model_of("fast rcnn"))
    assert all(match.ok for match in found), found


def test_the_file_is_whole_and_says_what_it_is(tmp_path: Path) -> None:
    model = model_of("end to end", class_names=tuple("abcde"))
    path = export_onnx(model, tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}, "standard operators alone"
    assert [i.name for i in proto.graph.input] == ["image", "image_size", "scale"]
    assert [o.name for o in proto.graph.output] == ["boxes_xyxy", "scores", "labels"]
    held = json.loads({p.key: p.value for p in proto.metadata_props}["unidet"])
    assert held["model"] == json.loads(json.dumps(model.config))
    exported = OnnxDetector(path)
    assert exported.class_names == tuple("abcde")
    assert exported.preprocess == model.preprocess


def test_the_runner_answers_as_the_detector() -> None:
    model = model_of("retinanet")
    picture = pictures()[0]
    wanted = Detector.from_model(model)(picture, score_threshold=0.05)
    exported = OnnxDetector(onnx_bytes(Detector.from_model(model, class_names=list("vwxyz"))))
    (found,) = exported.stream([picture], score_threshold=0.05)
    assert found.class_names == tuple("vwxyz")
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)


def test_two_files_make_a_detector_of_two_stages() -> None:
    first, second = model_of("stage 1"), model_of("stage 2, calibrated")
    pair = OnnxDetector(onnx_bytes(second), first_stage=OnnxDetector(onnx_bytes(first)))
    wanted = Detector.from_model(second, first_stage=Detector.from_model(first))
    picture = pictures()[0]
    ours, theirs = pair(picture, 0.05), wanted(picture, 0.05)
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


def test_models_of_either_framework(backend: str) -> None:
    found = beside(model_of("end to end", backend))
    assert all(match.ok for match in found), found


def test_exporting_leaves_the_model_as_it_is() -> None:
    model = model_of("retinanet")
    batch = batches(model)[0]
    before = model.run(batch)["cls_logits"]
    model.train()
    onnx_bytes(model)
    assert model.training
    model.eval()
    after = model.run(batch)["cls_logits"]
    np.testing.assert_array_equal(ops.to_numpy(ops.detach(before)), ops.to_numpy(ops.detach(after)))
