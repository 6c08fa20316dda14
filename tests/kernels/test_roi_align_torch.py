"""RoIAlign as PyTorch operators: contract checks, memory layouts, compilation."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from tests.kernels.test_roi_align import HEIGHT, SCALE, WIDTH, compiled, regions
from unidet.backends import ops
from unidet.backends.torch import roi_align as module

pytestmark = [compiled, pytest.mark.cpu, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

LAST = torch.channels_last


def maps(layout: torch.memory_format, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    values = torch.randn(2, 5, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return values.to(dtype).contiguous(memory_format=layout)


def align(x: torch.Tensor, **settings: Any) -> torch.Tensor:
    boxes, images = regions()
    return ops.roi_align(x, boxes, images, (2, 3), scale=SCALE, **settings)


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("count", [1, 2])
def test_operators_pass_torchs_own_check(layout: torch.memory_format, count: int) -> None:
    boxes, images = (torch.from_numpy(a) for a in regions(4, "float64"))
    levels = None if count == 1 else torch.arange(len(boxes)) % 2
    features = [maps(layout, torch.float64).requires_grad_() for _ in range(count)]
    settings = ([2, 3], [SCALE] * count, 0, True)
    arguments = (features, boxes, images, levels, *settings)
    torch.library.opcheck(torch.ops.unidet.roi_align.default, arguments)
    cells = torch.ops.unidet.roi_align(*arguments).detach()
    shapes = [side for feature in features for side in feature.shape]
    last = [layout is LAST] * count
    arguments = (cells, boxes, images, levels, shapes, last, *settings)
    torch.library.opcheck(torch.ops.unidet.roi_align_backward.default, arguments)


def test_gradients_pass_torchs_own_check() -> None:
    x = maps(LAST, torch.float64).requires_grad_()
    boxes, images = regions(3, "float64")
    assert torch.autograd.gradcheck(
        lambda v: ops.roi_align(v, boxes, images, (2, 3), scale=SCALE), x
    )


@pytest.mark.parametrize("gradient_layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_layout_is_kept(layout: torch.memory_format, gradient_layout: torch.memory_format) -> None:
    x = maps(layout).requires_grad_()
    cells = align(x)
    assert cells.is_contiguous(memory_format=layout)
    gradient = torch.randn(cells.shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad(cells, x, gradient.contiguous(memory_format=gradient_layout))
    assert slope.is_contiguous(memory_format=layout)
    plain = x.detach().contiguous().requires_grad_()
    want = align(plain)
    torch.testing.assert_close(cells, want)
    torch.testing.assert_close(slope, torch.autograd.grad(want, plain, gradient)[0])


def test_no_layout_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gets the very memory of the map, in either layout."""
    seen: list[int] = []
    forward = module.roi_kernels.forward

    def spy(features: Any, *rest: Any) -> None:
        seen.extend(feature.ctypes.data for feature in features)
        forward(features, *rest)

    monkeypatch.setattr(module.roi_kernels, "forward", spy)
    for layout in (torch.contiguous_format, LAST):
        x = maps(layout)
        align(x)
        assert seen.pop() == x.data_ptr()


def test_other_strides_are_understood() -> None:
    x = maps(torch.contiguous_format)
    strange = x.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(align(strange), align(x))
    narrow = torch.cat([x, x], 3)[..., :WIDTH]
    torch.testing.assert_close(align(narrow), align(x))
    cells = align(x.requires_grad_())
    (want,) = torch.autograd.grad(cells.sum(), x, retain_graph=True)
    # The gradient of a sum is an expanded number: strides of zero.
    (got,) = torch.autograd.grad(cells, x, torch.ones(1).expand(cells.shape))
    torch.testing.assert_close(got, want)


def test_one_graph_holds_the_operator() -> None:
    boxes, images = (torch.from_numpy(a) for a in regions())

    def mean_of_squares(x: torch.Tensor) -> torch.Tensor:
        cells = ops.roi_align(x * 2, boxes, images, 2, scale=SCALE)
        return (cells * cells).mean()

    x = maps(LAST).requires_grad_()
    torch._dynamo.reset()
    compiled_form = torch.compile(mean_of_squares, fullgraph=True, backend="aot_eager")
    got, want = compiled_form(x), mean_of_squares(x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, x), torch.autograd.grad(want, x))


def test_vendor_kernel_gets_what_it_expects() -> None:
    """The form for GPUs, with a stand-in for the vendor's kernel."""

    def vendor(x: Any, rois: Any, size: Any, scale: float, sampling: int, aligned: bool) -> Any:
        assert sampling == -1
        return ops.roi_align(x, rois[:, 1:], rois[:, 0].long(), size, scale=scale, aligned=aligned)

    boxes, images = regions()
    levels = np.arange(len(boxes)) % 2
    features = [maps(torch.contiguous_format), maps(torch.contiguous_format) + 1]
    options = module.roi_kernels.options_of(2, (SCALE, SCALE / 2), 0, True)
    stand_in = types.SimpleNamespace(roi_align=vendor)
    got = module._on_gpu(stand_in, features, boxes, images, levels, options)
    want = ops.roi_align_levels(features, boxes, images, levels, 2, scales=(SCALE, SCALE / 2))
    torch.testing.assert_close(got, want)
    got = module._on_gpu(stand_in, features[:1], boxes, images, None, options)
    torch.testing.assert_close(got, ops.roi_align(features[0], boxes, images, 2, scale=SCALE))
