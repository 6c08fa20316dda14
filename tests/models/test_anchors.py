from __future__ import annotations

import numpy as np
import pytest

from unidet.models.boxes.anchors import AnchorGenerator, octave_sizes, truncated_octave_sizes

SHAPES = ((40, 66), (20, 33), (10, 17), (5, 9), (3, 5))


def level_shapes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    return tuple((-(-height // 2**p), -(-width // 2**p)) for p in range(3, 8))


def test_count_and_first_centre_of_yhenon() -> None:
    anchors = AnchorGenerator(octave_sizes(), offset=0.5)
    levels = anchors((640, 1056), level_shapes(640, 1056))
    assert sum(map(len, levels)) == 126_675
    first = levels[0][0]
    assert np.allclose((first[:2] + first[2:]) / 2, (4, 4))
    assert sum(map(len, anchors((320, 320), level_shapes(320, 320)))) == 19_206


def test_half_extents_of_the_finest_cell() -> None:
    anchors = AnchorGenerator(octave_sizes(), offset=0.5)
    expected = [
        (22.627, 11.314), (28.509, 14.254), (35.919, 17.959),
        (16, 16), (20.159, 20.159), (25.398, 25.398),
        (11.314, 22.627), (14.254, 28.509), (17.959, 35.919),
    ]  # fmt: skip
    assert np.allclose(anchors.cells[0][:, 2:], expected, atol=1e-3)
    assert anchors.per_cell == 9


def test_torchvision_rounds_sizes_and_corners() -> None:
    assert truncated_octave_sizes()[4] == (512, 645, 812)
    anchors = AnchorGenerator(truncated_octave_sizes(), rounding=True)
    expected = [
        (23, 11),
        (28, 14),
        (35, 18),
        (16, 16),
        (20, 20),
        (25, 25),
        (11, 23),
        (14, 28),
        (18, 35),
    ]
    assert anchors.cells[0][:, 2:].tolist() == [list(pair) for pair in expected]


def test_measured_stride_is_side_over_feature_side() -> None:
    shapes = ((36, 60), (18, 30), (9, 15), (5, 8), (3, 4))
    anchors = AnchorGenerator(octave_sizes(), stride_rule="measured")
    p6 = anchors((288, 480), shapes)[3].reshape(5, 8, 9, 4)
    centres = (p6[..., :2] + p6[..., 2:]) / 2
    assert np.allclose(centres[1, 0, 4], (0, 288 // 5))
    assert np.allclose(centres[0, 1, 4], (480 // 8, 0))


def test_size_outer_is_a_permutation_of_ratio_outer() -> None:
    by_ratio = AnchorGenerator(octave_sizes()).cells[2]
    by_size = AnchorGenerator(octave_sizes(), order="size").cells[2]
    assert np.array_equal(by_size.reshape(3, 3, 4), by_ratio.reshape(3, 3, 4).transpose(1, 0, 2))


def test_row_major_order_and_joined_form() -> None:
    anchors = AnchorGenerator(octave_sizes())
    levels = anchors((320, 528), SHAPES)
    joined = anchors.all_levels((320, 528), SHAPES)
    assert np.array_equal(joined, np.concatenate(levels))
    moved = levels[0].reshape(40, 66, 9, 4)
    assert np.allclose(moved[0, 1] - moved[0, 0], (8, 0, 8, 0), atol=1e-4)
    assert np.allclose(moved[1, 0] - moved[0, 0], (0, 8, 0, 8), atol=1e-4)
    assert joined.dtype == np.float32


def test_cache_is_bounded_and_read_only() -> None:
    anchors = AnchorGenerator([(16.0,)], strides=[8])
    for side in range(1, 40):
        anchors((8 * side, 8), [(side, 1)])
    assert len(anchors._cache) == 16
    level = anchors((8, 8), [(1, 1)])[0]
    with pytest.raises(ValueError):
        level[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sizes": [(8.0,)] * 4}, "anchor_sizes"),
        ({"stride_rule": "guessed"}, "anchor_stride_rule"),
        ({"order": "random"}, "anchor_order"),
    ],
)
def test_bad_settings_are_refused(change: dict, match: str) -> None:
    settings = {"sizes": octave_sizes(), **change}
    with pytest.raises(ValueError, match=match):
        AnchorGenerator(**settings)
    with pytest.raises(ValueError, match="level_shapes"):
        AnchorGenerator(octave_sizes())((8, 8), [(1, 1)])
