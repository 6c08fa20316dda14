"""Matching of boxes with objects, both forms, against a slow, obvious loop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import cases, judges
from unidet.backends import kernels


@pytest.mark.parametrize("least", [0.0, 0.3])
@pytest.mark.parametrize("kind", cases.CASES)
def test_equals_the_judge(form: str, kind: str, least: float) -> None:
    rng = np.random.default_rng(5)
    boxes, objects = cases.CASES[kind](rng, 120)[0], cases.CASES[kind](rng, 9)[0]
    found = kernels.match(boxes, objects, least)
    assert [part.dtype for part in found] == [boxes.dtype, np.int64, np.int64]
    for part, wanted in zip(found, judges.match(boxes, objects, least)):
        assert part.tolist() == wanted


def test_the_judge_has_something_to_say() -> None:
    rng = np.random.default_rng(5)
    boxes, objects = (cases.CASES["ties_and_zero_area"](rng, n)[0] for n in (60, 20))
    best, owner, favourite = judges.match(boxes, objects, 0.0)
    assert len(set(best)) > 5 and -1 in owner and -1 in favourite
    differ = [o != f for o, f in zip(owner, favourite) if f >= 0]
    assert any(differ) and not all(differ)


@pytest.mark.parametrize("count", [1, 2047, 2048, 2049, 10000])
@pytest.mark.parametrize("make_case", [cases.clustered, cases.spread])
def test_compiled_equals_numpy_on_many_boxes(
    make_case, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of boxes meet the objects one after the other."""
    if not kernels.available():
        pytest.skip("the compiled kernel library is not installed")
    rng = np.random.default_rng(count)
    boxes, objects = make_case(rng, count)[0], make_case(rng, 30)[0]
    # The best of an object more than once, in blocks of its own.
    boxes[rng.integers(0, count, 20)] = objects[0]
    compiled = kernels.match(boxes, objects, 0.2)
    monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "0")
    for part, wanted in zip(compiled, kernels.match(boxes, objects, 0.2)):
        np.testing.assert_array_equal(part, wanted)


def test_by_hand(form: str) -> None:
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60], [0, 0, 10, 5]])
    objects = np.float32([[0, 0, 10, 10], [0, 0, 10, 4], [90, 90, 95, 95]])
    best, owner, favourite = kernels.match(boxes, objects)
    np.testing.assert_array_equal(best, np.float32([1, 0.8, 0, 0.8]))
    assert owner.tolist() == [0, 1, -1, 1]
    assert favourite.tolist() == [0, 1, -1, 1]
    assert kernels.match(boxes, objects, 0.9)[2].tolist() == [0, -1, -1, -1]


@pytest.mark.parametrize("boxes, objects", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_match(form: str, boxes: int, objects: int) -> None:
    best, owner, favourite = kernels.match(
        np.ones((boxes, 4), np.float32), np.ones((objects, 4), np.float32)
    )
    assert best.tolist() == [0] * boxes
    assert owner.tolist() == favourite.tolist() == [-1] * boxes


def test_layout_and_dtype_are_adapted(form: str) -> None:
    boxes, objects = (cases.spread(np.random.default_rng(3), n)[0] for n in (40, 5))
    wanted = kernels.match(boxes, objects)
    strided = np.asfortranarray(boxes), np.repeat(objects, 2, axis=0)[::2]
    for part, other in zip(wanted, kernels.match(*strided)):
        np.testing.assert_array_equal(part, other)
    assert kernels.match(boxes, objects.astype(np.float64))[0].dtype == np.float64


@pytest.mark.parametrize(
    "boxes, objects, least, error, words",
    [
        (np.ones((2, 3), np.float32), np.ones((2, 4), np.float32), 0, ValueError, "`boxes`"),
        (np.ones((2, 4), np.float32), np.ones(4, np.float32), 0, ValueError, "`objects`"),
        (np.ones((2, 4), np.float32), np.ones((2, 4), np.int64), 0, TypeError, "`objects`"),
        (np.ones((2, 4), np.float32), np.ones((2, 4), np.float32), 1.5, ValueError, "`least`"),
    ],
)
def test_bad_arguments_are_named(boxes, objects, least, error, words) -> None:
    with pytest.raises(error, match=words):
        kernels.match(boxes, objects, least)
