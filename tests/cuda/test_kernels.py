"""RoIAlign and non-maximum suppression on the GPU against the judges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kernels import cases, judges
from tests.kernels.test_roi_align import HEIGHT, SCALE, SETTINGS, WIDTH, regions, weights
from unidet.backends import kernels, ops


def on_gpu(array: np.ndarray) -> Any:
    return ops.asarray(array, backend="torch").cuda()


@pytest.fixture(params=["vendor", "without"])
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torchvision's kernels and without."""
    from unidet.backends.torch import kernels as nms
    from unidet.backends.torch import roi_align

    if request.param == "without":
        for module in (nms, roi_align):
            monkeypatch.setattr(module, "torchvision_ops", lambda: None)
    elif nms.torchvision_ops() is None:
        pytest.skip("torchvision is not installed")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize(("sampling", "aligned"), SETTINGS)
def test_roi_align(vendor: None, dtype: str, levels: int, sampling: int, aligned: bool) -> None:
    size, rng = (3, 4), np.random.default_rng(1)
    matrix = weights(size, sampling, aligned)
    boxes, images = regions(dtype=dtype)
    level = np.arange(len(boxes)) % levels
    maps = rng.normal(size=(levels, 2, 5, HEIGHT, WIDTH))
    factor = rng.normal(size=(len(boxes), 5, *size))
    settings = {"scales": [SCALE] * levels, "sampling_ratio": sampling, "aligned": aligned}

    def cells(*features: Any) -> Any:
        return ops.roi_align_levels(features, boxes, images, level, size, **settings)

    features = [on_gpu(one.astype(dtype)) for one in maps]
    got = cells(*features)
    assert got.is_cuda and ops.dtype(got) == dtype
    _, slopes = ops.grad(lambda *f: ops.sum(cells(*f) * on_gpu(factor.astype(dtype))), features)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    flat = maps.reshape(levels, 2, 5, -1)
    want = np.einsum("rpij,rcp->rcij", matrix, flat[level, images])
    np.testing.assert_allclose(ops.to_numpy(got), want, rtol=tolerance, atol=tolerance)
    slope = np.zeros((levels, 2, 5, HEIGHT * WIDTH))
    np.add.at(slope, (level, images), np.einsum("rpij,rcij->rcp", matrix, factor))
    found = np.stack([ops.to_numpy(one) for one in slopes])
    np.testing.assert_allclose(found, slope.reshape(maps.shape), rtol=1e-4, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_roi_align_of_half_types(vendor: None, dtype: str) -> None:
    boxes, images = regions()
    maps = np.random.default_rng(2).normal(size=(2, 5, HEIGHT, WIDTH)).astype(np.float32)
    half = ops.cast(on_gpu(maps), dtype)
    got = ops.roi_align(half, boxes, images, (3, 4), scale=SCALE)
    want = ops.roi_align(ops.cast(half, "float32"), boxes, images, (3, 4), scale=SCALE)
    assert ops.dtype(got) == dtype
    # Computed in float32 and rounded once.
    rounding = {"float16": 2**-10, "bfloat16": 2**-7}[dtype]
    np.testing.assert_allclose(
        ops.to_numpy(ops.cast(got, "float32")), ops.to_numpy(want), rtol=rounding, atol=1e-6
    )


@pytest.mark.parametrize("boxes", [np.nan, np.inf])
def test_boxes_that_are_no_numbers_are_refused(vendor: None, boxes: float) -> None:
    maps = on_gpu(np.ones((2, 5, HEIGHT, WIDTH), np.float32))
    for given in (np.full((1, 4), boxes, np.float32), on_gpu(np.full((1, 4), boxes, np.float32))):
        with pytest.raises(ValueError, match="finite"):
            ops.roi_align(maps, given, np.zeros(1, np.int64), 2, scale=1.0)


@pytest.mark.parametrize("image", [-1, 2])
def test_images_that_are_not_there_are_refused(vendor: None, image: int) -> None:
    maps = on_gpu(np.ones((2, 5, HEIGHT, WIDTH), np.float32))
    for given in (np.array([image]), on_gpu(np.array([image]))):
        with pytest.raises(ValueError, match="`indices`"):
            ops.roi_align(maps, np.zeros((1, 4), np.float32), given, 2, scale=1.0)


def test_no_boxes(vendor: None) -> None:
    maps = on_gpu(np.ones((2, 5, HEIGHT, WIDTH), np.float32))
    none = np.zeros((0, 4), np.float32)
    got = ops.roi_align(maps, none, np.zeros(0, np.int64), (3, 4), scale=SCALE)
    assert got.is_cuda and ops.shape(got) == (0, 5, 3, 4)


@pytest.mark.parametrize("kind", cases.CASES)
def test_nms(vendor: None, kind: str) -> None:
    boxes, scores, classes = cases.CASES[kind](np.random.default_rng(7), 80)
    given = [on_gpu(one) for one in (boxes, scores, classes)]
    kept = ops.nms(*given[:2], 0.5)
    assert kept.is_cuda and kept.tolist() == judges.nms(boxes, scores, 0.5)
    kept = ops.batched_nms(*given, 0.5)
    assert kept.is_cuda and kept.tolist() == judges.batched_nms(boxes, scores, classes, 0.5)
    kept, left = ops.soft_nms(*given[:2], 0.3, 0.5, 0.05, "gaussian")
    want, want_left = kernels.soft_nms(boxes, scores, 0.3, 0.5, 0.05, "gaussian")
    assert kept.is_cuda and kept.tolist() == want.tolist()
    np.testing.assert_array_equal(ops.to_numpy(left), want_left)


def test_nms_of_many_boxes(vendor: None) -> None:
    for kind, (boxes, scores, classes), threshold in cases.sweep(60):
        where = f"{kind}, {len(boxes)} boxes, threshold {threshold}"
        given = [on_gpu(one) for one in (boxes, scores, classes)]
        want = kernels.nms(boxes, scores, threshold)
        assert ops.nms(*given[:2], threshold).tolist() == want.tolist(), where
        want = kernels.batched_nms(boxes, scores, classes, threshold)
        assert ops.batched_nms(*given, threshold).tolist() == want.tolist(), where
