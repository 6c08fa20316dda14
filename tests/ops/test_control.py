"""Choosing a backend, gradients, and turning them off."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from unidet.backends import backend_of, ops, use


def _tensor(values: object, backend: str):
    return ops.asarray(np.asarray(values, "float32"), backend=backend)


def test_gradients(backend: str) -> None:
    x, y = _tensor([1, 2], backend), _tensor([3, 4], backend)
    value, (dx, dy) = ops.grad(lambda a, b: ops.sum(a * a * b), [x, y])
    assert ops.item(value) == 19
    assert ops.to_numpy(dx).tolist() == [6, 16]
    assert ops.to_numpy(dy).tolist() == [1, 4]
    again, gradients = ops.value_and_grad(lambda a, b: ops.sum(a * a * b))(x, y)
    assert ops.item(again) == 19
    assert ops.to_numpy(gradients[0]).tolist() == [6, 16]


def test_unused_inputs_have_zero_gradient(backend: str) -> None:
    x, y = _tensor([1, 2], backend), _tensor([3, 4], backend)
    _, (dx, dy) = ops.grad(lambda a, b: ops.sum(a), [x, y])
    assert ops.to_numpy(dx).tolist() == [1, 1]
    assert ops.to_numpy(dy).tolist() == [0, 0]
    _, (dx,) = ops.grad(lambda a: ops.sum(y), [x])
    assert ops.to_numpy(dx).tolist() == [0, 0]


def test_detach_cuts(backend: str) -> None:
    x = _tensor([1, 2], backend)
    _, (dx,) = ops.grad(lambda a: ops.sum(a * ops.detach(a)), [x])
    assert ops.to_numpy(dx).tolist() == [1, 2]


def test_no_grad_cuts_inside_the_block_alone(backend: str) -> None:
    x = _tensor([3], backend)

    def partly(a):
        with ops.no_grad():
            fixed = a * 5
        return ops.sum(fixed * a)

    value, (dx,) = ops.grad(partly, [x])
    assert ops.item(value) == 45
    assert ops.item(dx) == 15


def test_gradients_of_tensors_made_without_gradients(backend: str) -> None:
    with ops.no_grad():
        x = _tensor([3], backend)
    assert ops.item(ops.grad(lambda a: ops.sum(a * a), [x])[1][0]) == 6


def test_gradients_need_one_number(backend: str) -> None:
    with pytest.raises(ValueError, match="one element"):
        ops.grad(lambda a: a, [_tensor([1, 2], backend)])
    with pytest.raises(ValueError, match="Received none"):
        ops.grad(lambda: 1, [])


def test_the_reference_has_no_gradients() -> None:
    with pytest.raises(TypeError, match="no gradients"):
        ops.grad(np.sum, [np.ones(3)])


def test_sync_waits(backend: str) -> None:
    ops.sync(_tensor([1], backend) + 1)


def test_creation_chooses(backend: str) -> None:
    x = ops.zeros((2, 3), backend=backend)
    assert backend_of(x) == backend
    assert backend_of(ops.arange(3, like=x)) == backend
    with use(backend):
        assert backend_of(ops.ones((1,))) == backend
        assert backend_of(ops.asarray([1.0])) == backend
        assert backend_of(ops.asarray(np.ones(2))) == backend
    with pytest.raises(ValueError, match="not both"):
        ops.ones((1,), like=x, backend=backend)


def test_python_numbers_have_fixed_dtypes(backend: str) -> None:
    for value, dtype in ((0.5, "float32"), (3, "int64"), (True, "bool"), ([1.5, 2], "float32")):
        assert ops.dtype(ops.asarray(value, backend=backend)) == dtype


def test_tensors_cross_frameworks(both: None) -> None:
    x = _tensor([[1, 2]], "torch")
    y = ops.asarray(x, backend="jittor")
    assert backend_of(y) == "jittor"
    z = ops.asarray(y, like=x)
    assert backend_of(z) == "torch"
    assert ops.to_numpy(z).tolist() == [[1, 2]]
    assert ops.asarray(y, backend="numpy").tolist() == [[1, 2]]


def test_asarray_copies_memory(backend: str) -> None:
    values = np.zeros(3, np.float32)
    x = ops.asarray(values, backend=backend)
    values[0] = 9
    assert ops.to_numpy(x).tolist() == [0, 0, 0]


def test_strangers_are_refused() -> None:
    for value in (1.5, "text", [1.0], None):
        with pytest.raises(TypeError, match=r"Expected torch\.Tensor"):
            ops.exp(value)


def test_wrong_dtype_names_are_refused(backend: str) -> None:
    with pytest.raises(ValueError, match="dtype"):
        ops.zeros((1,), "float", backend=backend)
    with pytest.raises(ValueError, match="dtype"):
        ops.cast(ops.zeros((1,), backend=backend), "long")


def test_no_framework_is_imported_for_the_reference() -> None:
    code = (
        "import sys, numpy as np; from unidet.backends import ops; "
        "ops.nms(np.zeros((2, 4), 'f'), np.ones(2, 'f'), 0.5); "
        "print([m for m in ('torch', 'jittor') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("training", [False, True])
def test_operations_compile(training: bool) -> None:
    torch = pytest.importorskip("torch")

    def step(x, w, boxes):
        y = ops.relu(ops.conv2d(x, w, None, 1, 1))
        y = ops.interpolate(ops.max_pool2d(y, 2), (8, 8), "bilinear")
        y = ops.reshape(ops.transpose(y, (0, 2, 3, 1)), (-1, 4))
        top, index = ops.topk(ops.max(y, 1), 5)
        picked = ops.concat([ops.take(y, index), ops.clip(ops.softmax(y, 1), 0.1, 0.9)])
        target = ops.cast(picked > 0.3, ops.dtype(picked))
        losses = ops.sigmoid_focal_loss(picked, target) + ops.smooth_l1(picked, target, 0.1)
        iou = ops.box_iou(boxes, boxes)
        return ops.sum(losses) + ops.mean(ops.where(iou > 0.5, iou, 0.0)) + ops.sum(top)

    rng = np.random.default_rng(0)
    arguments = [
        torch.tensor(rng.normal(size=shape), dtype=torch.float32, requires_grad=training)
        for shape in ((1, 3, 8, 8), (4, 3, 3, 3), (5, 4))
    ]
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), step(*arguments))
