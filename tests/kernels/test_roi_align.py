"""RoIAlign: the compiled kernel, the composite form and both frameworks against the judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ops.spec import TOLERANCES
from unidet.backends import kernels, ops
from unidet.backends.kernels import composite_roi
from unidet.backends.kernels import roi_align as roi_kernels
from unidet.backends.numpy import roi_align as judge

compiled = pytest.mark.skipif(
    not kernels.available(), reason="the compiled kernel library is not installed"
)

#: Height and width of the map and pixels of it per pixel of the input.
HEIGHT, WIDTH, SCALE = 9, 11, 0.25
SETTINGS = [(sampling, aligned) for sampling in (0, 1, 2) for aligned in (True, False)]


def regions(count: int = 12, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Boxes inside, across edges, outside, of no size and turned around, and their images."""
    rng = np.random.default_rng(count)
    low = rng.uniform(-12, 40, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 40, (count, 2))], 1)
    special = [
        [8.3, 4.1, 8.3, 4.1],
        [100.5, 100.5, 140.5, 120.5],
        [-60.5, -40.5, -20.5, -10.5],
        [-30.3, -30.7, 90.1, 80.9],
        [20.3, 18.9, 11.1, 3.7],
        [6.1, -2.2, 6.4, 39.7],
    ]
    boxes = np.concatenate([boxes, special]).astype(dtype)
    return boxes, rng.integers(0, 2, len(boxes))


def memory(array: np.ndarray, last: bool) -> np.ndarray:
    """A copy whose channels lie innermost, or in plain order."""
    if not last:
        return np.array(array, order="C")
    return np.array(array.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2)


def weights(size: tuple[int, int], sampling: int, aligned: bool) -> np.ndarray:
    """The judge's whole linear map, ``(R, pixels, rows, columns)``, and the images."""
    boxes, images = regions(dtype="float64")
    pixels = HEIGHT * WIDTH
    basis = np.eye(pixels).reshape(1, pixels, HEIGHT, WIDTH)
    options = {"scale": SCALE, "sampling_ratio": sampling, "aligned": aligned}
    return judge.roi_align(basis, boxes, np.zeros_like(images), size, **options)


@compiled
@pytest.mark.parametrize("channels", [1, 5, 67, 130])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("sampling", "aligned"), SETTINGS)
def test_kernel_equals_the_judge(channels: int, last: bool, sampling: int, aligned: bool) -> None:
    """Forward and backward, both layouts of the map and of the cells, odd numbers of channels."""
    size, rng = (3, 4), np.random.default_rng(channels)
    matrix = weights(size, sampling, aligned)
    maps = rng.normal(size=(2, channels, HEIGHT, WIDTH))
    gradient = rng.normal(size=(len(matrix), channels, *size))
    options = roi_kernels.options_of(size, (SCALE,), sampling, aligned)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        boxes, images = regions(dtype=dtype)
        flat = maps.reshape(2, channels, -1)[images]
        want = np.einsum("rpij,rcp->rcij", matrix, flat)
        want_maps = np.zeros((2, channels, HEIGHT * WIDTH))
        np.add.at(want_maps, images, np.einsum("rpij,rcij->rcp", matrix, gradient))
        for cells_last in (False, True):
            out = memory(np.full(want.shape, np.nan, dtype), cells_last)
            source = memory(maps.astype(dtype), last)
            roi_kernels.forward([source], boxes, images, None, options, out)
            np.testing.assert_allclose(out, want, rtol=tolerance, atol=tolerance)
            back = memory(np.full(maps.shape, np.nan, dtype), last)
            cells = memory(gradient.astype(dtype), cells_last)
            roi_kernels.backward(cells, boxes, images, None, options, [back])
            np.testing.assert_allclose(
                back, want_maps.reshape(maps.shape), rtol=10 * tolerance, atol=10 * tolerance
            )


@compiled
@pytest.mark.parametrize("last", [False, True])
def test_results_do_not_depend_on_threads_or_runs(last: bool) -> None:
    rng = np.random.default_rng(0)
    boxes, images = regions(300)
    maps = memory(rng.normal(size=(2, 96, HEIGHT, WIDTH)).astype(np.float32), last)
    cells = rng.normal(size=(len(boxes), 96, 7, 7)).astype(np.float32)
    options = roi_kernels.options_of(7, (SCALE,), 0, True)
    results = set()
    for threads in (1, 2, 2, 3, 5):
        out, back = memory(cells, last), memory(maps, last)
        roi_kernels.forward([maps], boxes, images, None, options, out, threads)
        roi_kernels.backward(memory(cells, last), boxes, images, None, options, [back], threads)
        results.add((out.tobytes(), back.tobytes()))
    assert len(results) == 1


@compiled
@pytest.mark.parametrize("sampling", [0, 3])
def test_boxes_far_larger_than_the_map(sampling: int) -> None:
    """An adaptive number of samples grows with the box; the time must not."""
    maps = np.random.default_rng(0).normal(size=(1, 4, HEIGHT, WIDTH))
    boxes = np.array([[-1e9, -1e9, 1e9, 1e9], [-3e4, 5, 7e4, 30], [-500, -400, 800, 700]])
    images = np.zeros(3, np.int64)
    options = roi_kernels.options_of(5, (SCALE,), sampling, True)
    out = np.empty((3, 4, 5, 5))
    roi_kernels.forward([maps], boxes, images, None, options, out)
    got = composite_roi.roi_align_levels([maps], boxes, images, None, options)
    np.testing.assert_allclose(out, got, rtol=1e-9, atol=1e-12)
    settings = {"scale": SCALE, "sampling_ratio": sampling}
    want = judge.roi_align(maps, boxes[2:], images[2:], 5, **settings)
    np.testing.assert_allclose(out[2:], want, rtol=1e-9, atol=1e-12)


@pytest.fixture(params=["kernel", "composite"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which form the frameworks use."""
    if request.param == "composite":
        monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "composite")
    elif not kernels.available():
        pytest.skip("the compiled kernel library is not installed")
    return request.param


def projected(x: Any, call: Any, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells, and the gradient of their sum weighted by ``factor``."""
    cells = ops.to_numpy(call(x))

    def loss(maps: Any) -> Any:
        found = call(maps)
        return ops.sum(found * ops.asarray(factor, ops.dtype(found), like=found))

    return cells, ops.to_numpy(ops.grad(loss, [x])[1][0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("sampling", "aligned"), [(0, True), (2, False)])
def test_frameworks_equal_the_judge(
    backend: str, form: str, dtype: str, sampling: int, aligned: bool
) -> None:
    size, rng = (3, 4), np.random.default_rng(1)
    matrix = weights(size, sampling, aligned)
    boxes, images = regions(dtype=dtype)
    maps = rng.normal(size=(2, 5, HEIGHT, WIDTH))
    factor = rng.normal(size=(len(boxes), 5, *size))
    settings = {"scale": SCALE, "sampling_ratio": sampling, "aligned": aligned}
    x = ops.asarray(maps.astype(dtype), backend=backend)
    got, slope = projected(x, lambda v: ops.roi_align(v, boxes, images, size, **settings), factor)
    assert got.dtype == slope.dtype == np.dtype(dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    want = np.einsum("rpij,rcp->rcij", matrix, maps.reshape(2, 5, -1)[images])
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    want_slope = np.zeros((2, 5, HEIGHT * WIDTH))
    np.add.at(want_slope, images, np.einsum("rpij,rcij->rcp", matrix, factor))
    want_slope = want_slope.reshape(maps.shape)
    np.testing.assert_allclose(slope, want_slope, rtol=10 * tolerance, atol=10 * tolerance)


KEY = re.compile(
    r"roi_align/scale([\d.]+)_aligned(\d)_sampling(\d)_out(\d+)x(\d+)/(out|grad_input)"
)


@pytest.mark.parametrize("last", [False, True])
def test_published_operator(backend: str, sample_data: Path, last: bool) -> None:
    """Outputs and gradients of mmcv's operator, over all its settings."""
    if last and backend != "torch":
        pytest.skip("memory has one layout here")
    gold = np.load(sample_data / "golden/given/ops/outputs.npz")
    rois = gold["roi_align/rois"]
    x = ops.asarray(gold["roi_align/input"], backend=backend)
    if last:
        x = x.to(memory_format=pytest.importorskip("torch").channels_last)
    compared = {"out": 0, "grad_input": 0}
    for key in gold:
        found = KEY.fullmatch(key)
        if not found:
            continue
        scale, aligned, sampling, rows, columns, kind = found.groups()
        size = (int(rows), int(columns))
        settings = {
            "scale": float(scale), "sampling_ratio": int(sampling), "aligned": aligned == "1"
        }  # fmt: skip
        shape = (len(rois), x.shape[1], *size)
        factor = np.cos(np.float32(0.37) * np.arange(np.prod(shape), dtype=np.float32))
        images = rois[:, 0].astype(np.int64)
        call = lambda v, i=images, z=size, s=settings: ops.roi_align(v, rois[:, 1:], i, z, **s)  # noqa: E731
        cells, slope = projected(x, call, factor.reshape(shape))
        if kind == "out":
            got = cells[:, :, ::5, ::5] if size == (14, 14) else cells
            np.testing.assert_allclose(got, gold[key], rtol=1e-5, atol=1e-5, err_msg=key)
        else:
            # Sums of hundreds of terms of both signs: against the size of the whole.
            limit = TOLERANCES["gradient"].relative * np.abs(gold[key]).max()
            np.testing.assert_allclose(slope[:, ::3], gold[key], rtol=1e-4, atol=limit)
        compared[kind] += 1
    assert compared["out"] >= 20
    assert compared["grad_input"] >= 10


def test_a_ramp_gives_the_centres_of_the_cells(backend: str) -> None:
    """Worked out on paper: the mean of a linear map is its value in the middle."""
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32), (1, 1, 20, 20)).copy()
    box = np.array([[16, 24, 48, 56]], np.float32)
    x, image = ops.asarray(ramp, backend=backend), np.zeros(1, np.int64)
    got = ops.to_numpy(ops.roi_align(x, box, image, (1, 4), scale=0.25))
    np.testing.assert_allclose(got.reshape(-1), [4.5, 6.5, 8.5, 10.5], rtol=1e-6)
    got = ops.to_numpy(ops.roi_align(x, box, image, (1, 4), scale=0.25, aligned=False))
    np.testing.assert_allclose(got.reshape(-1), [5, 7, 9, 11], rtol=1e-6)
    # No area: no samples when aligned, one pixel's side otherwise.
    flat = np.array([[16, 24, 16, 24]], np.float32)
    assert ops.item(ops.roi_align(x, flat, image, 1, scale=0.25)) == 0
    assert ops.item(ops.roi_align(x, flat, image, 1, scale=0.25, aligned=False)) == 4.5


def test_no_boxes_and_no_images(backend: str) -> None:
    boxes, none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    x = ops.asarray(np.ones((2, 3, 4, 5), np.float32), backend=backend)
    cells, slope = projected(
        x, lambda v: ops.roi_align(v, boxes, none, 2, scale=0.5), np.zeros((0, 3, 2, 2))
    )
    assert cells.shape == (0, 3, 2, 2)
    assert not slope.any()
    empty = ops.zeros((0, 3, 4, 5), backend=backend)
    got = ops.roi_align_levels([empty, empty], boxes, none, none, 2, scales=(0.5, 0.25))
    assert ops.shape(got) == (0, 3, 2, 2)


@pytest.mark.cpu
def test_without_the_library_the_composite_form_takes_over(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes, images = regions()
    maps = np.random.default_rng(0).normal(size=(2, 5, HEIGHT, WIDTH)).astype(np.float32)
    x, settings = ops.asarray(maps, backend=backend), {"scale": SCALE, "sampling_ratio": 2}
    monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "composite")
    want = ops.to_numpy(ops.roi_align(x, boxes, images, (3, 4), **settings))
    monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "0")
    got = ops.to_numpy(ops.roi_align(x, boxes, images, (3, 4), **settings))
    np.testing.assert_array_equal(got, want)


def test_levels_keep_the_order_of_the_boxes(backend: str, form: str) -> None:
    rng = np.random.default_rng(3)
    boxes, images = regions()
    levels = np.arange(len(boxes)) % 3
    maps = [
        ops.asarray(rng.normal(size=(2, 5, 9 - k, 11 - k)).astype(np.float32), backend=backend)
        for k in range(3)
    ]
    scales = (0.25, 0.125, 0.0625)
    got = ops.to_numpy(ops.roi_align_levels(maps, boxes, images, levels, 2, scales=scales))
    for k, (feature, scale) in enumerate(zip(maps, scales)):
        part = levels == k
        want = ops.roi_align(feature, boxes[part], images[part], 2, scale=scale)
        np.testing.assert_allclose(got[part], ops.to_numpy(want), rtol=1e-6, atol=1e-7)


def test_a_level_without_boxes_has_gradient_zero(backend: str) -> None:
    boxes, images = regions()
    maps = [ops.asarray(np.ones((2, 3, n, n), np.float32), backend=backend) for n in (9, 8, 7)]
    levels = np.ones(len(boxes), np.int64)
    _, slopes = ops.grad(
        lambda *m: ops.sum(ops.roi_align_levels(m, boxes, images, levels, 2, scales=(0.25,) * 3)),
        maps,
    )
    assert [bool(ops.to_numpy(slope).any()) for slope in slopes] == [False, True, False]


def test_half_types_are_computed_in_float32(backend: str) -> None:
    boxes, images = regions()
    maps = np.random.default_rng(0).normal(size=(2, 3, HEIGHT, WIDTH)).astype(np.float16)
    half = ops.roi_align(ops.asarray(maps, backend=backend), boxes, images, 2, scale=SCALE)
    assert ops.dtype(half) == "float16"
    wide = ops.roi_align(maps.astype(np.float32), boxes, images, 2, scale=SCALE)
    np.testing.assert_allclose(ops.to_numpy(half), wide, rtol=2e-3, atol=1e-3)


def test_tensors_may_stand_for_arrays(backend: str) -> None:
    boxes, images = regions()
    x = ops.asarray(np.ones((2, 3, HEIGHT, WIDTH), np.float32), backend=backend)
    got = ops.roi_align(x, ops.asarray(boxes, like=x), ops.asarray(images, like=x), 2, scale=SCALE)
    want = ops.roi_align(x, boxes, images, 2, scale=SCALE)
    np.testing.assert_array_equal(ops.to_numpy(got), ops.to_numpy(want))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"boxes": np.full((1, 4), np.nan, np.float32)}, ValueError, "finite"),
        ({"boxes": np.full((1, 4), np.inf, np.float32)}, ValueError, "finite"),
        ({"boxes": np.zeros((1, 5), np.float32)}, ValueError, r"\(1, 5\)"),
        ({"indices": np.array([2])}, ValueError, "`indices`"),
        ({"indices": np.array([-1])}, ValueError, "`indices`"),
        ({"indices": np.array([0, 1])}, ValueError, r"\(2,\)"),
        ({"indices": np.array([0.0])}, TypeError, "integers"),
        ({"size": (0, 2)}, ValueError, "`size`"),
        ({"scale": 0.0}, ValueError, "`scale`"),
        ({"sampling_ratio": -1}, ValueError, "`sampling_ratio`"),
    ],
)
def test_bad_arguments_are_named(
    backend: str, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    good = {
        "boxes": np.zeros((1, 4), np.float32),
        "indices": np.array([0]),
        "size": 2,
        "scale": 1.0,
    }
    x = ops.asarray(np.ones((2, 3, HEIGHT, WIDTH), np.float32), backend=backend)
    with pytest.raises(error, match=words):
        ops.roi_align(x, **{**good, **change})
