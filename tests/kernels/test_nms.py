"""The compiled kernels and their NumPy forms against slow, obvious loops."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tests.kernels import cases, judges
from unidet.backends import kernels

METHODS = tuple(kernels.SOFT_METHODS)


def make(kind: str, size: int = 80) -> cases.Case:
    return cases.CASES[kind](np.random.default_rng(7), size)


def test_the_library_is_built_here() -> None:
    """Where a compiler is, installation must not fall back silently."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("not a development environment")
    assert kernels.available(), "run `pip install -e .`; `unidet doctor` says more"
    assert kernels.max_threads() >= 1


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("kind", cases.CASES)
def test_nms_equals_the_judge(form: str, kind: str, threshold: float) -> None:
    boxes, scores, _ = make(kind)
    kept = kernels.nms(boxes, scores, threshold)
    assert kept.dtype == np.int64
    assert kept.tolist() == judges.nms(boxes, scores, threshold)


@pytest.mark.parametrize("kind", cases.CASES)
def test_batched_nms_equals_the_judge(form: str, kind: str) -> None:
    boxes, scores, classes = make(kind)
    kept = kernels.batched_nms(boxes, scores, classes, 0.5)
    assert kept.tolist() == judges.batched_nms(boxes, scores, classes, 0.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", cases.CASES)
def test_soft_nms_equals_the_judge(form: str, kind: str, method: str) -> None:
    boxes, scores, _ = make(kind, 50)
    kept, left = kernels.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method)
    want, want_left = judges.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method)
    assert kept.tolist() == want
    assert left.dtype == scores.dtype
    # Equal bits but for the last place of a float64 exponential.
    rtol = 1e-13 if scores.dtype == np.float64 else 0
    np.testing.assert_allclose(left, want_left, rtol=rtol, atol=0)


def test_random_sweep(form: str) -> None:
    for kind, (boxes, scores, classes), threshold in cases.sweep(150):
        where = f"{kind}, {len(boxes)} boxes, threshold {threshold}"
        kept = kernels.nms(boxes, scores, threshold)
        assert kept.tolist() == judges.nms(boxes, scores, threshold), where
        kept = kernels.batched_nms(boxes, scores, classes, threshold)
        assert kept.tolist() == judges.batched_nms(boxes, scores, classes, threshold), where


@pytest.mark.parametrize("make_case", [cases.clustered, cases.spread])
def test_compiled_equals_numpy_on_many_boxes(make_case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which survivors are moved together and threads are used."""
    boxes, scores, classes = make_case(np.random.default_rng(3), 4000)
    several = kernels.batched_nms(boxes, scores, classes, 0.5, threads=3)
    got = [
        kernels.nms(boxes, scores, 0.5),
        kernels.batched_nms(boxes, scores, classes, 0.5, threads=1),
        *kernels.soft_nms(boxes, scores, 0.5, 0.5, 0.01, "linear"),
    ]
    np.testing.assert_array_equal(several, got[1])
    monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "0")
    want = [
        kernels.nms(boxes, scores, 0.5),
        kernels.batched_nms(boxes, scores, classes, 0.5),
        *kernels.soft_nms(boxes, scores, 0.5, 0.5, 0.01, "linear"),
    ]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(
    importlib.util.find_spec("unidet.backends.kernels.composite") is None,
    reason="the composite forms are not installed",
)
@pytest.mark.parametrize(
    "kind", ["clustered", "spread", "ties_and_zero_area", "identical", "empty"]
)
def test_composite_equals_the_kernel(kind: str) -> None:
    composite = importlib.import_module("unidet.backends.kernels.composite")
    boxes, scores, _ = make(kind)
    kept = np.asarray(composite.nms(boxes, scores, 0.5))
    np.testing.assert_array_equal(kept, kernels.nms(boxes, scores, 0.5))


def test_a_judge_with_pixel_grid_widths_is_noticed() -> None:
    """The comparison has teeth: the "+1" convention gives other survivors."""
    boxes, scores, _ = make("ties_and_zero_area")
    assert kernels.nms(boxes, scores, 0.5).tolist() != judges.nms(boxes, scores, 0.5, extra=1.0)


def test_hard_soft_nms_is_nms(form: str) -> None:
    boxes, scores, _ = make("clustered")
    kept, left = kernels.soft_nms(boxes, scores, 0.4, score_threshold=0.0, method="hard")
    np.testing.assert_array_equal(kept, kernels.nms(boxes, scores, 0.4))
    np.testing.assert_array_equal(left, scores[kept])


def test_soft_nms_by_hand(form: str) -> None:
    """Two boxes of IoU 1/2 and one apart, worked out on paper."""
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
    scores = np.float32([0.8, 0.6, 0.5])
    kept, left = kernels.soft_nms(boxes, scores, 0.3, 0.5, 0.001, "linear")
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(left, [0.8, 0.5, 0.6 * 0.5], rtol=1e-6)
    kept, left = kernels.soft_nms(boxes, scores, 0.3, 0.5, 0.001, "gaussian")
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(left, [0.8, 0.5, 0.6 * np.exp(-0.5)], rtol=1e-6)
    kept, _ = kernels.soft_nms(boxes, scores, 0.3, 0.5, 0.4, "linear")
    assert kept.tolist() == [0, 2]


def test_layout_and_dtype_are_adapted(form: str) -> None:
    boxes, scores, classes = make("clustered")
    wide = np.asfortranarray(np.repeat(boxes, 2, axis=0))[::2]
    want = kernels.batched_nms(boxes, scores, classes, 0.5)
    got = kernels.batched_nms(wide, scores, classes.astype(np.int32), 0.5)
    np.testing.assert_array_equal(got, want)
    half = kernels.nms(boxes.astype(np.float16), scores.astype(np.float16), 0.5)
    want = kernels.nms(
        boxes.astype(np.float16).astype(np.float32),
        scores.astype(np.float16).astype(np.float32),
        0.5,
    )
    np.testing.assert_array_equal(half, want)


def test_inputs_are_left_alone(form: str) -> None:
    boxes, scores, classes = make("clustered")
    copies = boxes.copy(), scores.copy(), classes.copy()
    kernels.batched_nms(boxes, scores, classes, 0.5)
    kernels.soft_nms(boxes, scores)
    for now, before in zip((boxes, scores, classes), copies, strict=True):
        np.testing.assert_array_equal(now, before)


BOXES, SCORES = np.zeros((3, 4), np.float32), np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kernels.nms(np.zeros((3, 5), np.float32), SCORES, 0.5), ValueError, r"\(3, 5\)"),
        (lambda: kernels.nms(BOXES, SCORES[:2], 0.5), ValueError, "`scores`"),
        (lambda: kernels.nms(BOXES.astype(int), SCORES, 0.5), TypeError, "int64"),
        (lambda: kernels.nms(BOXES, SCORES, 1.5), ValueError, "Received 1.5"),
        (lambda: kernels.nms(BOXES, SCORES, float("nan")), ValueError, "nan"),
        (lambda: kernels.batched_nms(BOXES, SCORES, SCORES, 0.5), TypeError, "`classes`"),
        (
            lambda: kernels.batched_nms(BOXES, SCORES, np.zeros(2, int), 0.5),
            ValueError,
            r"\(3,\)",
        ),
        (
            lambda: kernels.batched_nms(BOXES, SCORES, np.zeros(3, int), 0.5, threads=0),
            ValueError,
            "`threads`",
        ),
        (lambda: kernels.soft_nms(BOXES, SCORES, sigma=0), ValueError, "`sigma`"),
        (lambda: kernels.soft_nms(BOXES, SCORES, score_threshold=-1), ValueError, "threshold"),
        (lambda: kernels.soft_nms(BOXES, SCORES, method="cosine"), ValueError, "'cosine'"),
    ],
)
def test_bad_arguments_are_named(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_library_that_does_not_load_is_replaced(tmp_path) -> None:
    """A file that is no library must not break the import, and results stay."""
    fake = tmp_path / "_kernels.so"
    fake.write_bytes(b"not a library")
    program = f"""
import pathlib, numpy as np
from unidet.backends import kernels
kernels.library_path.cache_clear()
kernels.library_path = lambda: pathlib.Path({str(fake)!r})
assert not kernels.available()
boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
assert kernels.nms(boxes, np.float32([.5, .6, .1]), .5).tolist() == [1, 2]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
