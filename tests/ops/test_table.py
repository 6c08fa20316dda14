"""Every operation against the NumPy reference, generated from the table of specifications."""

from __future__ import annotations

import inspect
from types import ModuleType

import numpy as np
import pytest

from tests.ops import op_checks as checks
from tests.ops.spec import TABLE, TOLERANCES, OpSpec
from unidet.backends import ops, registry

PLAIN = [name for name, spec in TABLE.items() if not spec.control]
SMOOTH = [name for name, spec in TABLE.items() if spec.differentiable]


def _case(name: str, index: int):
    return pytest.param(name, index, id=f"{name}-{index}")


CASES = [_case(name, i) for name in PLAIN for i in range(len(TABLE[name].samples()))]
SLOPES = [
    _case(name, i)
    for name in SMOOTH
    for i, sample in enumerate(TABLE[name].samples())
    if sample.smooth
]


def test_the_table_is_complete() -> None:
    public = {name for name in ops.__all__ if name != "Tensor"}
    assert set(TABLE) == public
    assert len(public) <= 120


@pytest.mark.parametrize("name", list(TABLE))
def test_entry(name: str) -> None:
    spec = TABLE[name]
    assert spec.meaning
    assert spec.tolerance in TOLERANCES
    assert spec.control or spec.samples()
    assert set(spec.differentiable) <= set(spec.signature.parameters)


@pytest.mark.parametrize("name", SMOOTH)
def test_every_differentiable_argument_has_a_sample(name: str) -> None:
    spec = TABLE[name]
    names = list(spec.signature.parameters)
    checked = {
        names[place[0]]
        for sample in spec.samples()
        if sample.smooth
        for place in checks.differentiable(spec, sample)
        if checks.at(sample.args, place).size
    }
    assert checked == set(spec.differentiable)


def _parameters(spec: OpSpec, module: ModuleType) -> list[tuple[str, object]] | None:
    try:
        found = inspect.signature(getattr(module, spec.name))
    except ValueError:
        # Native functions written in C; the wrapper passes every argument by position.
        return None
    return [(p.name, p.default) for p in found.parameters.values()]


def test_signatures(backend: str) -> None:
    _compare_signatures(registry.implementation(backend))


def test_signatures_of_the_reference() -> None:
    _compare_signatures(registry.implementation("numpy"))


def _compare_signatures(module: ModuleType) -> None:
    compared = 0
    for spec in TABLE.values():
        if spec.creates or spec.name == "value_and_grad":
            continue
        want = [(p.name, p.default) for p in spec.signature.parameters.values()]
        got = _parameters(spec, module)
        if got is None or _is_native(getattr(module, spec.name)):
            continue
        compared += 1
        assert got == want, spec.name
    assert compared > 40


def _is_native(function: object) -> bool:
    return not getattr(function, "__module__", "").startswith("unidet")


@pytest.mark.parametrize(("name", "index"), CASES)
def test_value(backend: str, name: str, index: int, request: pytest.FixtureRequest) -> None:
    spec = TABLE[name]
    sample = spec.samples()[index]
    if sample.raises is not None:
        if sample.raises is IndexError and request.config.getoption("--device") == "cuda":
            pytest.skip("a GPU's process ends")
        for name_of_backend in (backend, "numpy"):
            with pytest.raises(sample.raises):
                checks.call(spec, sample, name_of_backend)
        return
    got, passed = checks.call(spec, sample, backend)
    checks.compare(spec, sample, got, backend)
    for argument, original in zip(passed, sample.args):
        if isinstance(original, np.ndarray):
            np.testing.assert_array_equal(ops.to_numpy(argument), original)


@pytest.mark.skipif("torch" not in registry.available(), reason="torch is not installed")
@pytest.mark.parametrize(("name", "index"), CASES)
def test_value_of_strided_tensors(name: str, index: int) -> None:
    spec = TABLE[name]
    sample = spec.samples()[index]
    if sample.raises is not None:
        pytest.skip("an error, tested above")
    checks.compare(spec, sample, checks.call(spec, sample, "torch", checks.strided)[0], "torch")


@pytest.mark.parametrize(("name", "index"), SLOPES)
def test_gradient(backend: str, name: str, index: int) -> None:
    spec = TABLE[name]
    sample = spec.samples()[index]
    if not checks.differentiable(spec, sample):
        pytest.skip("no floating argument here")
    got = checks.native_gradients(spec, sample, backend)
    checks.compare_gradients(got, checks.numeric_gradients(spec, sample))
