"""Layers, losses and boxes."""

from __future__ import annotations

import numpy as np

from tests.ops.spec._types import (
    OpSpec,
    Sample,
    boxes,
    distinct,
    normal,
    positive,
    sample,
)

_NO_BOXES = np.zeros((0, 4), np.float32)
_NO_IMAGES = np.zeros((0, 2, 5, 6), np.float32)


def _products() -> list[Sample]:
    return [
        sample(normal(3, 4), normal(4, 2)),
        sample(normal(2, 3, 4), normal(2, 4, 5)),
        sample(normal(2, 3, 4), normal(4, 2)),
        sample(normal(2, 2, 3, 4), normal(2, 2, 4, 3)),
        sample(normal(0, 4), normal(4, 2)),
    ]


def _linears() -> list[Sample]:
    return [
        sample(normal(3, 4), normal(2, 4), normal(2)),
        sample(normal(2, 3, 4), normal(2, 4)),
        sample(normal(0, 4), normal(2, 4), normal(2)),
    ]


def _convolutions() -> list[Sample]:
    return [
        sample(normal(2, 3, 6, 7), normal(4, 3, 3, 3), normal(4), padding=1),
        sample(normal(1, 3, 7, 6), normal(2, 3, 3, 1), None, (2, 1), (1, 0), (2, 1)),
        sample(normal(2, 4, 5, 5), normal(4, 2, 3, 3), normal(4), 2, 1, 1, 2),
        sample(normal(2, 3, 4, 5), normal(4, 3, 1, 1), normal(4)),
        sample(normal(2, 3, 5, 7), normal(4, 3, 1, 1), None, (2, 3)),
        sample(normal(0, 3, 6, 7), normal(4, 3, 3, 3), normal(4), padding=1),
        sample(normal(0, 3, 6, 7), normal(4, 3, 1, 1), normal(4)),
    ]


def _max_pools() -> list[Sample]:
    return [
        sample(distinct(2, 2, 7, 6), 3, 2, 1),
        sample(distinct(1, 2, 5, 5), 2, None, 0, True),
        sample(distinct(1, 2, 5, 5) - 50, 5, 1, 2),
        sample(distinct(1, 1, 4, 5), (4, 5)),
        sample(_NO_IMAGES, 2),
    ]


def _mean_pools() -> list[Sample]:
    return [
        sample(normal(2, 2, 6, 6), 2),
        sample(normal(1, 2, 7, 6), 3, 2, 1),
        sample(normal(1, 2, 7, 6), 3, 2, 1, True, False),
        sample(normal(1, 2, 5, 5), 2, 2, 0, True, True),
        sample(normal(1, 1, 4, 5), (4, 5)),
        sample(_NO_IMAGES, 2),
    ]


def _adaptive_pools() -> list[Sample]:
    return [
        sample(normal(2, 2, 5, 7), (3, 2)),
        sample(normal(2, 2, 5, 7), 1),
        sample(normal(1, 2, 3, 3), (5, 4)),
        sample(_NO_IMAGES, 2),
    ]


def _resizes() -> list[Sample]:
    return [
        sample(normal(2, 2, 3, 4), (6, 8)),
        sample(normal(1, 2, 7, 5), (10, 3)),
        sample(normal(1, 2, 3, 4), (7, 6), "bilinear"),
        sample(normal(1, 2, 6, 5), (4, 9), "bilinear", True),
        sample(_NO_IMAGES, (10, 12)),
        sample(normal(1, 2, 3, 4), (6, 8), "cubic", raises=ValueError),
    ]


def _batch_norms() -> list[Sample]:
    return [
        sample(normal(2, 3, 4, 5), normal(3), positive(3), normal(3, seed=1), normal(3, seed=2)),
        sample(normal(2, 3, 4, 5) + 300, normal(3) + 300, positive(3), smooth=False),
        sample(normal(4, 3), normal(3), positive(3), normal(3, seed=1), normal(3, seed=2), 1e-3),
    ]


def _group_norms() -> list[Sample]:
    return [
        sample(normal(2, 4, 3, 3), 2, normal(4), normal(4, seed=1)),
        sample(normal(2, 4, 3, 3) + 300, 1, smooth=False),
        sample(normal(0, 4, 3, 3), 2, normal(4), normal(4, seed=1)),
    ]


def _layer_norms() -> list[Sample]:
    return [
        sample(normal(3, 8), normal(8), normal(8, seed=1)),
        sample(normal(2, 3, 8) + 300, smooth=False),
        sample(normal(3, 2, 4), normal(2, 4), normal(2, 4, seed=1), 1e-3),
        sample(normal(0, 8), normal(8), normal(8, seed=1)),
    ]


def _dropouts() -> list[Sample]:
    return [
        sample(normal(3, 4), normal(3, 4, seed=1) > 0, 0.4),
        sample(_NO_BOXES, _NO_BOXES > 0, 0.5),
    ]


#: Hides a key, and swallows what it is added to in float64 too.
_HIDDEN = np.float32(-1e30)


def _attentions() -> list[Sample]:
    query, key, value = normal(2, 2, 3, 4), normal(2, 2, 5, 4, seed=1), normal(2, 2, 5, 4, seed=2)
    keys = np.where(normal(2, 1, 1, 5, seed=3) > 0.8, _HIDDEN, np.float32(0))
    no_keys = normal(2, 2, 0, 4)
    return [
        sample(query, key, value),
        sample(query, key, value, normal(3, 5, seed=4)),
        sample(query, key, value, keys),
        sample(query, key, value, np.full((2, 1, 3, 5), _HIDDEN), smooth=False),
        sample(query * 40, key, value, normal(2, 2, 3, 5, seed=5), smooth=False),
        sample(normal(0, 2, 3, 4), normal(0, 2, 5, 4), normal(0, 2, 5, 4)),
        sample(normal(2, 2, 0, 4), key, value, normal(0, 5)),
        sample(query, no_keys, no_keys, normal(2, 1, 1, 0)),
    ]


def _sure() -> np.ndarray:
    return np.array([[-1000, -60, -20, 0], [0, 20, 60, 1000]], np.float32)


def _truth() -> np.ndarray:
    return (normal(3, 4, seed=1) > 0).astype(np.float32)


def _entropies() -> list[Sample]:
    soft = 1 / (1 + np.exp(-normal(3, 4, seed=2)))
    return [
        sample(normal(3, 4), _truth()),
        sample(normal(3, 4), soft),
        sample(_sure(), np.array([[0, 1, 0, 1], [0, 1, 0, 1]], np.float32), smooth=False),
        sample(_NO_BOXES, _NO_BOXES),
    ]


def _focals() -> list[Sample]:
    soft = 1 / (1 + np.exp(-normal(3, 4, seed=2)))
    return [
        sample(normal(3, 4), _truth()),
        sample(normal(3, 4), soft, 0.6, 1.5),
        sample(normal(3, 4), _truth(), -1, 0),
        sample(_sure(), np.array([[0, 1, 0, 1], [0, 1, 0, 1]], np.float32), smooth=False),
        sample(_NO_BOXES, _NO_BOXES),
    ]


def _class_entropies() -> list[Sample]:
    return [
        sample(normal(3, 4), np.array([2, 0, 3])),
        sample(normal(3, 4), np.array([2, -100, 3])),
        sample(normal(3, 4), np.array([1, 0, 1]), 1),
        sample(np.array([[1000, 0, -1000]] * 2, np.float32), np.array([0, 2]), smooth=False),
        sample(_NO_BOXES, np.zeros(0, np.int64)),
    ]


def _smooths() -> list[Sample]:
    return [
        sample(normal(3, 4), normal(3, 4, seed=1), 0.5),
        sample(normal(3, 4), normal(3, 4, seed=1)),
        sample(normal(3, 4), normal(3, 4, seed=1), 0.0),
        sample(
            np.array([[0, 1, -1, np.inf]], np.float32),
            np.zeros((1, 4), np.float32),
            1.0,
            smooth=False,
        ),
        sample(_NO_BOXES, _NO_BOXES),
    ]


def _overlaps() -> list[Sample]:
    flat = np.array([[5, 5, 5, 9], [5, 5, 5, 9]], np.float32)
    return [
        sample(boxes(3), boxes(4, 1)),
        sample(flat, flat, smooth=False),
        sample(boxes(3), _NO_BOXES),
    ]


def _suppressions() -> list[Sample]:
    equal = np.repeat(boxes(4), 2, 0)
    return [
        sample(boxes(30), normal(30), 0.4),
        sample(equal, np.ones(8, np.float32), 0.5),
        sample(boxes(3), np.array([0.5, np.nan, 0.9], np.float32), 0.5),
        sample(_NO_BOXES, np.zeros(0, np.float32), 0.5),
    ]


def _class_suppressions() -> list[Sample]:
    return [
        sample(boxes(30), normal(30), np.arange(30) % 3, 0.3),
        sample(_NO_BOXES, np.zeros(0, np.float32), np.zeros(0, np.int64), 0.5),
    ]


def _soft_suppressions() -> list[Sample]:
    scores = 1 / (1 + np.exp(-normal(20)))
    return [
        sample(boxes(20), scores),
        sample(boxes(20), scores, 0.3, 0.5, 0.05, "gaussian"),
        sample(boxes(20), scores, 0.4, 0.5, 0.001, "hard"),
        sample(_NO_BOXES, np.zeros(0, np.float32)),
    ]


def _regions() -> np.ndarray:
    """Inside, across the edges, outside and of no size, for a map of 8 x 9 at scale 1/4."""
    rows = [
        [3.3, 2.2, 21.7, 17.4],
        [-9.1, -7.3, 50.2, 44.8],
        [60.5, 50.5, 90.5, 80.5],
        [5.5, 6.5, 5.5, 6.5],
        [30.3, 1.7, 35.9, 30.6],
    ]
    return np.array(rows, np.float32)


def _alignments() -> list[Sample]:
    maps, images = normal(2, 3, 8, 9), np.array([0, 1, 0, 1, 1])
    none = np.zeros(0, np.int64)
    return [
        sample(maps, _regions(), images, (2, 3), scale=0.25),
        sample(maps, _regions(), images, 2, scale=0.25, aligned=False),
        sample(maps, _regions(), images, 2, scale=0.25, sampling_ratio=1),
        sample(maps, _regions(), images, (3, 2), scale=0.25, sampling_ratio=2, aligned=False),
        sample(maps, _NO_BOXES, none, 2, scale=0.25),
        sample(maps, _regions(), images + 1, 2, scale=0.25, raises=ValueError),
        sample(maps, _regions() * np.float32(np.nan), images, 2, scale=0.25, raises=ValueError),
        sample(maps, _regions()[:, :3], images, 2, scale=0.25, raises=ValueError),
        sample(maps, _regions(), images, 0, scale=0.25, raises=ValueError),
        sample(maps, _regions(), images.astype(np.float32), 2, scale=0.25, raises=TypeError),
    ]


def _pyramid_alignments() -> list[Sample]:
    maps = [normal(2, 3, 8, 9), normal(2, 3, 4, 5, seed=1), normal(2, 3, 2, 3, seed=2)]
    images, levels = np.array([0, 1, 0, 1, 1]), np.array([2, 0, 0, 1, 0])
    none, scales = np.zeros(0, np.int64), (0.25, 0.125, 0.0625)
    return [
        sample(maps, _regions(), images, levels, 2, scales=scales),
        sample(maps, _regions(), images, levels, 2, scales=scales, sampling_ratio=2),
        sample(maps, _NO_BOXES, none, none, 2, scales=scales),
        sample(maps, _regions(), images, levels + 1, 2, scales=scales, raises=ValueError),
        sample(maps, _regions(), images, levels, 2, scales=scales[:2], raises=ValueError),
    ]


def _op(name: str, samples: object, tolerance: str, *differentiable: str) -> OpSpec:
    return OpSpec(name, samples, tolerance=tolerance, differentiable=differentiable)  # type: ignore[arg-type]


OPS = (
    _op("matmul", _products, "reduction", "x", "y"),
    _op("linear", _linears, "reduction", "x", "w", "b"),
    _op("conv2d", _convolutions, "conv", "x", "w", "b"),
    _op("max_pool2d", _max_pools, "exact", "x"),
    _op("avg_pool2d", _mean_pools, "reduction", "x"),
    _op("adaptive_avg_pool2d", _adaptive_pools, "reduction", "x"),
    _op("interpolate", _resizes, "elementwise", "x"),
    _op("batch_norm", _batch_norms, "conv", "x", "weight", "bias"),
    _op("group_norm", _group_norms, "conv", "x", "weight", "bias"),
    _op("layer_norm", _layer_norms, "conv", "x", "weight", "bias"),
    _op("dropout", _dropouts, "elementwise", "x"),
    _op("scaled_dot_product_attention", _attentions, "reduction", "query", "key", "value"),
    _op("binary_cross_entropy_with_logits", _entropies, "elementwise", "x", "y"),
    _op("cross_entropy", _class_entropies, "reduction", "logits"),
    _op("sigmoid_focal_loss", _focals, "elementwise", "logits"),
    _op("smooth_l1", _smooths, "elementwise", "x", "y"),
    _op("box_iou", _overlaps, "elementwise", "a", "b"),
    _op("roi_align", _alignments, "reduction", "features"),
    _op("roi_align_levels", _pyramid_alignments, "reduction", "features"),
    OpSpec("nms", _suppressions, dtype="int64"),
    OpSpec("batched_nms", _class_suppressions, dtype="int64"),
    OpSpec("soft_nms", _soft_suppressions, dtype=("int64", "same"), tolerance="elementwise"),
)
