"""The registered PyTorch operators: contract checks, compilation, agreement with the kernels."""

from __future__ import annotations

import types

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from tests.kernels import cases, judges
from unidet.backends import kernels
from unidet.backends.torch import kernels as operators

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def tensors(kind: str, size: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tuple(torch.from_numpy(a) for a in cases.CASES[kind](np.random.default_rng(5), size))


@pytest.mark.parametrize("kind", ["clustered", "empty"])
def test_operators_pass_torchs_own_check(kind: str) -> None:
    boxes, scores, classes = tensors(kind)
    ops = torch.ops.unidet
    torch.library.opcheck(ops.nms.default, (boxes, scores, 0.5))
    torch.library.opcheck(ops.batched_nms.default, (boxes, scores, classes, 0.5))
    torch.library.opcheck(ops.soft_nms.default, (boxes, scores, 0.3, 0.5, 0.01, "gaussian"))


@pytest.mark.parametrize("kind", ["clustered", "ties_and_zero_area", "nan", "clustered_float64"])
def test_operators_equal_the_kernels(kind: str) -> None:
    boxes, scores, classes = tensors(kind)
    arrays = boxes.numpy(), scores.numpy(), classes.numpy()
    kept = operators.batched_nms(boxes, scores, classes, 0.5)
    assert kept.tolist() == judges.batched_nms(*arrays, 0.5)
    assert operators.nms(boxes, scores, 0.5).tolist() == judges.nms(*arrays[:2], 0.5)
    kept, left = operators.soft_nms(boxes, scores, 0.3, 0.5, 0.01, "linear")
    want, want_left = kernels.soft_nms(*arrays[:2], 0.3, 0.5, 0.01, "linear")
    np.testing.assert_array_equal(kept.numpy(), want)
    np.testing.assert_array_equal(left.numpy(), want_left)
    assert left.dtype == scores.dtype


def test_one_graph_holds_the_operator() -> None:
    def survivors(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return boxes[torch.ops.unidet.nms(boxes * 2, scores, 0.5)].sum(0)

    boxes, scores, _ = tensors("clustered")
    compiled = torch.compile(survivors, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(boxes, scores), survivors(boxes, scores))


def test_half_precision_is_computed_in_float32() -> None:
    boxes, scores, _ = tensors("clustered")
    boxes, scores = boxes.bfloat16(), scores.bfloat16()
    got = operators.nms(boxes, scores, 0.5)
    assert got.tolist() == operators.nms(boxes.float(), scores.float(), 0.5).tolist()
    assert operators.soft_nms(boxes, scores)[1].dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["clustered", "spread", "nan", "identical"])
def test_one_launch_for_all_classes_keeps_the_same_boxes(kind: str) -> None:
    """The form for GPUs, with a stand-in for the vendor's kernel."""

    def vendor_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
        assert not scores.isnan().any()
        return torch.from_numpy(kernels.nms(boxes.numpy(), scores.numpy(), threshold))

    boxes, scores, classes = tensors(kind)
    vendor = types.SimpleNamespace(nms=vendor_nms)
    got = operators._batched_on_gpu(vendor, boxes, scores, classes, 0.5)
    assert got.tolist() == operators.batched_nms(boxes, scores, classes, 0.5).tolist()
