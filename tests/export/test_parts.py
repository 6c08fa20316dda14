"""Pieces of the graph beside their counterparts on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from unidet.backends import kernels
from unidet.backends.kernels.shared_soft_nms import shared_soft_nms
from unidet.export import boxes as parts
from unidet.export.graph import Graph, Value
from unidet.export.parts import Inputs
from unidet.export.soft_nms import soft_suppress
from unidet.models.boxes.anchors import AnchorGenerator, octave_sizes
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.geometry import clip_boxes
from unidet.models.boxes.scores import sigmoid
from unidet.models.boxes.tblr_coder import TBLRCoder
from unidet.models.detr.export import positions
from unidet.models.detr.positions import positions_of
from unidet.models.faster_rcnn.export import level_bounds
from unidet.models.faster_rcnn.roi_levels import RULES, roi_levels


def computed(
    make: Callable[..., Sequence[Value] | Value], *arrays: np.ndarray, opset: int = 17
) -> list[np.ndarray]:
    """What a graph that ``make`` builds of values answers for arrays."""
    helper = onnx.helper
    graph = Graph(opset)
    names = [f"in{i}" for i in range(len(arrays))]
    found = make(*[Value(graph, n, a.dtype.name) for n, a in zip(names, arrays)])
    found = [found] if isinstance(found, Value) else found

    def described(name: str, kind: str, rank: int | None) -> Any:
        code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        return helper.make_tensor_value_info(name, code, None if rank is None else [None] * rank)

    body = helper.make_graph(
        graph.nodes,
        "part",
        [described(n, a.dtype.name, a.ndim) for n, a in zip(names, arrays)],
        [described(value.name, value.kind, None) for value in found],
        graph.constants,
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        body, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports)
    )
    session = runtime.InferenceSession(model.SerializeToString())
    return session.run(None, dict(zip(names, arrays)))


def some_boxes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    corner = rng.uniform(0, 60, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 40, (*shape, 2))], -1).astype(np.float32)


@pytest.mark.parametrize("limit", [30, None])
@pytest.mark.parametrize("method", ["gaussian", "linear"])
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (40, 6)])
def test_soft_nms_of_shared_boxes(method: str, limit: int | None, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    boxes, scores = some_boxes(rng, shape[0]), rng.random(shape, np.float32)
    scores[rng.random(shape) < 0.3] = -np.inf
    if len(boxes) > 4:
        boxes[3] = boxes[4]
    options = {"iou_threshold": 0.3, "sigma": 0.5, "score_threshold": 0.01, "method": method}
    rows, labels, values = shared_soft_nms(boxes, scores, **options, limit=limit)
    found = suppressed(boxes[None], scores, method, limit, groups=1)
    np.testing.assert_array_equal(found[0], labels)
    np.testing.assert_array_equal(found[1], rows)
    np.testing.assert_array_equal(found[2], values)


def test_soft_nms_of_boxes_of_each_class() -> None:
    rng = np.random.default_rng(1)
    boxes, scores = some_boxes(rng, 3, 20), rng.random((20, 3), np.float32)
    wanted = []
    for label in range(3):
        kept, values = kernels.soft_nms(boxes[label], scores[:, label], 0.3, 0.5, 0.01, "gaussian")
        wanted += [(-value, label, row) for value, row in zip(values.tolist(), kept.tolist())]
    found = suppressed(boxes, scores, "gaussian", None, groups=3)
    order = [(-value, label, row) for label, row, value in zip(*(x.tolist() for x in found))]
    assert [one[1:] for one in order] == [one[1:] for one in sorted(wanted)]
    np.testing.assert_allclose([o[0] for o in order], [w[0] for w in sorted(wanted)], rtol=1e-6)


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, method: str, limit: int | None, groups: int
) -> list[np.ndarray]:
    post = SimpleNamespace(
        rows=SimpleNamespace(groups=groups),
        soft_nms=method,
        soft_sigma=0.5,
        soft_min_score=0.01,
        nms_iou=0.3,
        max_detections=limit,
    )
    columns = np.ascontiguousarray(scores.T)
    return computed(lambda b, s: soft_suppress(b.graph, b, s, post), boxes, columns)


def test_nms_of_classes_keeps_what_the_kernel_keeps() -> None:
    rng = np.random.default_rng(2)
    boxes, scores = some_boxes(rng, 200), rng.random(200, np.float32)
    labels = rng.integers(0, 4, 200)
    scores[:20] = scores[20:40]  # ties
    boxes[50:60] = boxes[50:60][:, [2, 1, 0, 3]]  # inverted: they overlap nothing
    wanted = kernels.batched_nms(boxes, scores, labels, 0.4)

    def graph_of(b: Value, s: Value, c: Value) -> Value:
        _, _, kept = parts.nms(b.reshape(1, -1, 4), parts.by_class(b.graph, s, c, 4), 0.4, None)
        return kept.take(parts.falling(s.take(kept), kept, None))

    np.testing.assert_array_equal(computed(graph_of, boxes, scores, labels)[0], wanted)
    none = computed(graph_of, boxes[:0], scores[:0], labels[:0])[0]
    assert none.shape == (0,)


@pytest.mark.parametrize("one_sided", [False, True])
def test_clipping(one_sided: bool) -> None:
    boxes = np.random.default_rng(3).uniform(-50, 150, (30, 4)).astype(np.float32)
    size = np.array([70, 90])
    (found,) = computed(lambda b, s: parts.clip(b, s, one_sided), boxes, size)
    np.testing.assert_array_equal(found, clip_boxes(boxes, 70, 90, one_sided))


@pytest.mark.parametrize("rule", ["nominal", "measured"])
@pytest.mark.parametrize("order", ["ratio", "size"])
def test_anchors(rule: str, order: str) -> None:
    generator = AnchorGenerator(
        octave_sizes((32, 64)), strides=(8, 16), offset=0.5, stride_rule=rule, order=order
    )
    image = np.zeros((1, 3, 100, 132), np.float32)
    maps = [np.zeros((1, 1, 13, 17), np.float32), np.zeros((1, 1, 7, 9), np.float32)]
    found = computed(lambda i, *m: parts.anchor_levels(generator, i, m), image, *maps)
    for ours, theirs in zip(found, generator((100, 132), ((13, 17), (7, 9)))):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "coder",
    [
        BoxCoder((0.1, 0.1, 0.2, 0.2), log_limit=1.0, log_limit_both=True),
        BoxCoder(log_limit=None),
        BoxCoder(log_limit=0.5),
        TBLRCoder(2.0),
    ],
)
def test_decoding(coder: BoxCoder | TBLRCoder) -> None:
    rng = np.random.default_rng(4)
    deltas, anchors = rng.standard_normal((50, 4)).astype(np.float32), some_boxes(rng, 50)
    (found,) = computed(lambda d, a: parts.decode(coder, d, a), deltas, anchors)
    np.testing.assert_allclose(found, coder.decode(deltas, anchors), rtol=1e-5, atol=1e-4)


def test_small_probabilities_stay_exact() -> None:
    logits = np.linspace(-80, 80, 400, dtype=np.float32)
    (found,) = computed(parts.sigmoid, logits)
    np.testing.assert_allclose(found, sigmoid(logits), rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_bounds_of_levels_decide_as_the_formula(rule: str) -> None:
    bounds = level_bounds(rule, 4)
    sides = np.concatenate(
        [np.nextafter(b, [0, np.float32(b), 1e9], dtype=np.float32) for b in bounds]
    )
    sides = np.concatenate([sides, np.linspace(0, 1500, 3001, dtype=np.float32)])
    boxes = np.stack([sides * 0, sides * 0, sides, sides], axis=1)
    ours = sum((sides >= bound).astype(np.int64) for bound in bounds)
    np.testing.assert_array_equal(ours, roi_levels(boxes, rule, 4))


@pytest.mark.parametrize("size", [(96, 128), (70, 101)])
def test_positions_of_detr(size: tuple[int, int]) -> None:
    image, features = np.zeros((1, 3, 96, 128), np.float32), np.zeros((1, 16, 3, 4), np.float32)

    def graph_of(i: Value, s: Value, c: Value, f: Value) -> tuple[Value, Value]:
        return positions(i.graph, Inputs(i, s, c), f, 16)

    scale = np.ones(2, np.float32)
    valid, places = computed(graph_of, image, np.array(size), scale, features)
    wanted_valid, wanted = positions_of((96, 128), [size], (3, 4), 16)
    np.testing.assert_array_equal(valid.reshape(1, -1), wanted_valid)
    np.testing.assert_allclose(places.reshape(1, -1, 16), wanted, atol=1e-6)
