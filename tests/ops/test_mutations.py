"""The checks themselves: each must fail when an operation is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import op_checks as checks
from tests.ops.spec import TABLE, OpSpec, Sample
from unidet.backends import ops

TENSORLESS = ("shape", "dtype")
VALUES = [n for n, spec in TABLE.items() if not spec.control and n not in TENSORLESS]
SLOPES = [name for name, spec in TABLE.items() if spec.differentiable]


def _wrong(result: object) -> object:
    """The result with one element changed by a little more than any tolerance."""
    if isinstance(result, (bool, np.bool_)):
        return not result
    if isinstance(result, (int, float)):
        return result + 1e-3
    array = np.array(result if isinstance(result, np.ndarray) else ops.to_numpy(result))
    if array.size == 0:
        return array
    if array.dtype.kind == "b":
        array.flat[-1] = not array.flat[-1]
    elif array.dtype.kind == "f":
        array.flat[-1] += max(1e-3, 1e-3 * abs(float(array.flat[-1])))
    else:
        array.flat[-1] += 1
    return array


def _fails(spec: OpSpec, sample: Sample, results: list[object], backend: str) -> bool:
    try:
        checks.compare(spec, sample, results, backend)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_value_is_noticed(name: str) -> None:
    spec = TABLE[name]
    noticed = False
    for sample in spec.samples():
        if sample.raises is not None:
            continue
        results = checks.reference(spec, sample)
        narrow = results if spec.creates else [_narrowed(r) for r in results]
        assert not _fails(spec, sample, narrow, "numpy"), "the reference fails its own check"
        for i, result in enumerate(narrow):
            changed = [*narrow[:i], _wrong(result), *narrow[i + 1 :]]
            noticed |= _fails(spec, sample, changed, "numpy")
    assert noticed


def _narrowed(result: object) -> object:
    """A float64 reference as the float32 that it stands for."""
    if isinstance(result, (np.ndarray, np.generic)) and result.dtype == np.float64:
        with np.errstate(over="ignore"):
            return np.asarray(result, np.float32)
    return np.asarray(result) if isinstance(result, np.generic) else result


@pytest.mark.parametrize("name", SLOPES)
def test_a_wrong_gradient_is_noticed(name: str) -> None:
    spec = TABLE[name]
    for sample in spec.samples():
        if not sample.smooth or not checks.differentiable(spec, sample):
            continue
        want = checks.numeric_gradients(spec, sample)
        for i, slope in enumerate(want):
            if not np.abs(slope).max(initial=0) > 1e-3:
                continue
            checks.compare_gradients(want, want)
            for changed in (slope * 1.001, slope[::-1] + 0.01, np.zeros_like(slope)):
                with pytest.raises(AssertionError):
                    checks.compare_gradients([*want[:i], changed, *want[i + 1 :]], want)
            return
    pytest.fail("no sample has a gradient")


def test_wrong_operations_are_noticed_on_a_framework(backend: str) -> None:
    spec = TABLE["exp"]
    sample = spec.samples()[0]
    right = checks.call(spec, sample, backend)[0]
    assert not _fails(spec, sample, right, backend)
    assert _fails(spec, sample, [right[0] * 1.0001], backend)
    assert _fails(spec, sample, [ops.cast(right[0], "float64")], backend)
    assert _fails(spec, sample, [ops.reshape(right[0], (4, 3))], backend)

    def wrong(x):
        # The value of exp with half its gradient.
        return 0.5 * ops.exp(x) + 0.5 * ops.detach(ops.exp(x))

    want = checks.numeric_gradients(spec, sample)
    checks.compare_gradients(checks.native_gradients(spec, sample, backend), want)
    with pytest.raises(AssertionError):
        checks.compare_gradients(checks.native_gradients(spec, sample, backend, wrong), want)
