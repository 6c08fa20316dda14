"""Parts of DETR against formulas: positions, attention, matching."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from unidet.backends import nn, ops, random
from unidet.models.detr.matcher import HungarianMatcher
from unidet.models.detr.positions import positions_of, sine_positions, valid_cells
from unidet.models.layers.attention import MultiheadAttention, padding_mask

# --- positions ----------------------------------------------------------------------------------


def test_sine_positions_have_the_published_values() -> None:
    places = sine_positions(np.ones((2, 3), bool), 256)
    np.testing.assert_allclose(places[0, 0, :4], [2e-6, -1, 0.408753, -0.912645], atol=2e-6)
    np.testing.assert_allclose(
        places[0, 0, 128:132], [0.866026, -0.499999, 0.970651, -0.240494], atol=2e-6
    )


def test_padding_does_not_move_the_positions_of_an_image() -> None:
    alone = sine_positions(np.ones((3, 5), bool), 32)
    valid = np.zeros((6, 7), bool)
    valid[:3, :5] = True
    np.testing.assert_array_equal(sine_positions(valid, 32)[:3, :5], alone)


@pytest.mark.parametrize("sizes", [(64, 100), (65, 97), (33, 1), (100, 100)])
def test_cells_take_the_nearest_pixel_below(sizes: tuple[int, int]) -> None:
    padded, cells = (100, 100), (4, 4)
    pixels = np.zeros(padded, bool)
    pixels[: sizes[0], : sizes[1]] = True
    index = np.array([0, 25, 50, 75])
    np.testing.assert_array_equal(valid_cells(padded, sizes, cells), pixels[np.ix_(index, index)])


def test_masks_and_positions_of_a_batch() -> None:
    valid, places = positions_of((64, 96), [(64, 96), (32, 40)], (2, 3), 16)
    assert valid.sum(axis=1).tolist() == [6, 2]
    assert places.shape == (2, 6, 16)


# --- attention ----------------------------------------------------------------------------------


def judged_attention(weights: dict[str, np.ndarray], q: Any, k: Any, v: Any, mask: Any) -> Any:
    width = q.shape[-1]
    parts = [
        x.astype(np.float64) @ w.T + b
        for x, w, b in zip(
            (q, k, v),
            np.split(weights["in_proj_weight"].astype(np.float64), 3),
            np.split(weights["in_proj_bias"].astype(np.float64), 3),
        )
    ]
    answer = np.zeros(q.shape)
    for start in range(0, width, width // 4):
        own = slice(start, start + width // 4)
        scores = parts[0][..., own] @ parts[1][..., own].transpose(0, 2, 1) / math.sqrt(width / 4)
        scores = np.exp(scores + mask[:, 0])
        answer[..., own] = scores / scores.sum(axis=-1, keepdims=True) @ parts[2][..., own]
    return answer @ weights["out_proj.weight"].T.astype(np.float64) + weights["out_proj.bias"]


@pytest.mark.parametrize("same", [True, False])
def test_attention_against_numpy(backend: str, same: bool) -> None:
    with nn.initial_seed(3):
        layer = MultiheadAttention(32, 4, backend=backend)
    generator = random.stream(0, "attention")
    query, key, value = (
        generator.standard_normal((2, n, 32)).astype(np.float32) for n in (5, 7, 7)
    )
    if same:
        query = key
    valid = np.ones((2, 7), bool)
    valid[1, 4:] = False
    mask = padding_mask(valid)
    tensors = [ops.asarray(x, backend=backend) for x in (query, key, value)]
    if same:
        tensors[0] = tensors[1]
    found = ops.to_numpy(layer(*tensors, ops.asarray(mask, backend=backend)))
    wanted = judged_attention(nn.state_arrays(layer), query, key, value, mask)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


# --- matching -----------------------------------------------------------------------------------


def test_the_cheapest_assignment_is_found() -> None:
    matcher = HungarianMatcher()
    wanted = np.array([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1]], np.float32)
    boxes = np.array([[0.21, 0.2, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1], [0.5, 0.5, 0.2, 0.21]])
    likely = np.full((3, 4), 0.25, np.float32)
    query, objects = matcher(likely, boxes.astype(np.float32), np.array([0, 1]), wanted)
    assert (query.tolist(), objects.tolist()) == ([0, 2], [1, 0])


def test_costs_are_those_of_the_paper() -> None:
    likely = np.array([[0.7, 0.2, 0.1]], np.float32)
    mine = np.array([[0.3, 0.25, 0.4, 0.3]], np.float32)
    wanted = np.array([[0.4, 0.4, 0.4, 0.5]], np.float32)
    cost = HungarianMatcher().costs(likely, mine, np.array([1]), wanted)
    giou = 0.197032
    assert cost[0, 0] == pytest.approx(5 * (0.1 + 0.15 + 0 + 0.2) - 0.2 - 2 * giou, abs=1e-5)


def test_more_objects_than_queries() -> None:
    wanted = np.array([[0.1 * i + 0.05, 0.5, 0.1, 0.1] for i in range(9)], np.float32)
    boxes = wanted[[7, 2]]
    query, objects = HungarianMatcher()(
        np.full((2, 2), 0.5, np.float32), boxes, np.zeros(9, np.int64), wanted
    )
    assert (query.tolist(), objects.tolist()) == ([0, 1], [7, 2])


def test_costs_that_are_no_numbers_match_last() -> None:
    wanted = np.array([[0.5, 0.5, 0.2, 0.2]], np.float32)
    boxes = np.array([[np.nan] * 4, [0.1, 0.1, 0.1, 0.1]], np.float32)
    query, _ = HungarianMatcher()(np.full((2, 2), 0.5), boxes, np.array([0]), wanted)
    assert query.tolist() == [1]
