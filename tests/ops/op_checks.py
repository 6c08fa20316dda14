"""What the generated tests compare: values, dtypes and gradients against the NumPy reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.ops.spec import TOLERANCES, OpSpec, Sample
from unidet.backends import ops, registry

STEP = 1e-5


def native(value: Any, backend: str) -> Any:
    """The same value with tensors of ``backend`` for NumPy arrays."""
    if isinstance(value, np.ndarray):
        return ops.asarray(value, backend=backend)
    return [native(v, backend) for v in value] if _is_tensors(value) else value


def strided(value: Any, backend: str) -> Any:
    """Like :func:`native`, but in column-major memory where the backend has such a thing."""
    if isinstance(value, np.ndarray) and value.ndim > 1:
        axes = tuple(range(value.ndim))[::-1]
        return ops.transpose(ops.asarray(np.transpose(value, axes), backend=backend), axes)
    return [strided(v, backend) for v in value] if _is_tensors(value) else native(value, backend)


def _is_tensors(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], np.ndarray)


def widened(value: Any) -> Any:
    """The same value in float64."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype == np.float32 else value
    return [widened(v) for v in value] if _is_tensors(value) else value


def reference(spec: OpSpec, sample: Sample) -> list[Any]:
    """Results of the NumPy implementation, in float64 where the sample is float32."""
    options = dict(sample.options)
    if spec.creates:
        return listed(spec.function(*sample.args, **options, backend="numpy"))
    return listed(spec.function(*(widened(a) for a in sample.args), **options))


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def call(
    spec: OpSpec, sample: Sample, backend: str, convert: Callable[[Any, str], Any] = native
) -> tuple[list[Any], list[Any]]:
    """Results on ``backend`` and the arguments that were passed."""
    if spec.creates:
        return listed(spec.function(*sample.args, **sample.options, backend=backend)), []
    arguments = [convert(a, backend) for a in sample.args]
    return listed(spec.function(*arguments, **sample.options)), arguments


def compare(spec: OpSpec, sample: Sample, got: Sequence[Any], backend: str) -> None:
    """Fails where a value, a shape or a dtype is not what the entry promises."""
    wanted = reference(spec, sample)
    if spec.name == "shape":
        assert tuple(got) == tuple(wanted)
        return
    if spec.name == "dtype":
        expected = [np.asarray(sample.args[0]).dtype.name]
        assert list(got) == expected
        return
    assert len(got) == len(wanted)
    for i, (value, want) in enumerate(zip(got, wanted)):
        _compare_dtype(spec, sample, value, want, i, backend)
        array = value if isinstance(value, (int, float, bool, np.ndarray)) else ops.to_numpy(value)
        close(np.asarray(array), np.asarray(want), spec.tolerance)


def _compare_dtype(
    spec: OpSpec, sample: Sample, value: Any, want: Any, i: int, backend: str
) -> None:
    if isinstance(value, (int, float, bool)):
        assert type(value) is type(want)
        return
    rule = spec.dtype if isinstance(spec.dtype, str) else spec.dtype[i]
    kind = value.dtype.name if isinstance(value, np.ndarray) else ops.dtype(value)
    if not isinstance(value, np.ndarray):
        assert registry.backend_of(value) == backend
    if rule == "same":
        first = sample.args[0][0] if _is_tensors(sample.args[0]) else sample.args[0]
        assert kind == first.dtype.name
    elif rule != "other":
        assert kind == rule
    else:
        # Said by an argument: that of the reference, which was widened.
        narrow = [np.asarray(a).dtype.name for a in sample.args if isinstance(a, np.ndarray)]
        name = np.asarray(want).dtype.name
        assert kind == ("float32" if name == "float64" and "float32" in narrow else name)


def close(got: np.ndarray, want: np.ndarray, tolerance: str) -> None:
    """Fails unless the arrays agree in shape and within the class of tolerance."""
    if want.shape == () and got.shape == (1,):
        # Jittor has no 0-d tensors.
        got = got.reshape(())
    assert got.shape == want.shape
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    with np.errstate(over="ignore"):
        want = want.astype(got.dtype)
    relative, absolute = TOLERANCES[tolerance]
    np.testing.assert_allclose(got, want, rtol=relative, atol=absolute, equal_nan=True)


def differentiable(spec: OpSpec, sample: Sample) -> list[tuple[int, int | None]]:
    """Places of the arguments that gradients flow to: position, and position in its list."""
    names = list(spec.signature.parameters)
    places: list[tuple[int, int | None]] = []
    for i, value in enumerate(sample.args):
        if names[i] not in spec.differentiable:
            continue
        if _is_tensors(value):
            places += [(i, j) for j, v in enumerate(value) if v.dtype == np.float32]
        elif isinstance(value, np.ndarray) and value.dtype == np.float32:
            places.append((i, None))
    return places


def replaced(args: Sequence[Any], place: tuple[int, int | None], value: Any) -> list[Any]:
    """``args`` with another value at one place."""
    result = [list(a) if isinstance(a, list) else a for a in args]
    if place[1] is None:
        result[place[0]] = value
    else:
        result[place[0]][place[1]] = value
    return result


def at(args: Sequence[Any], place: tuple[int, int | None]) -> Any:
    value = args[place[0]]
    return value if place[1] is None else value[place[1]]


def weights(spec: OpSpec, sample: Sample) -> list[np.ndarray | None]:
    """Random numbers that project the floating results onto one number."""
    rng = np.random.default_rng(len(spec.name))
    return [
        rng.normal(size=np.shape(want)).astype(np.float32)
        if np.asarray(want).dtype.kind == "f"
        else None
        for want in reference(spec, sample)
    ]


def numeric_gradients(spec: OpSpec, sample: Sample) -> list[np.ndarray]:
    """Central differences of the projected float64 reference, element by element."""
    projection = weights(spec, sample)
    base = [widened(a) for a in sample.args]

    def projected(args: Sequence[Any]) -> float:
        results = listed(spec.function(*args, **sample.options))
        return sum(float(np.sum(r * w)) for r, w in zip(results, projection) if w is not None)

    gradients = []
    for place in differentiable(spec, sample):
        x = at(base, place)
        slope = np.zeros(x.shape)
        for k in np.ndindex(x.shape):
            up, down = x.copy(), x.copy()
            up[k] += STEP
            down[k] -= STEP
            rise = projected(replaced(base, place, up)) - projected(replaced(base, place, down))
            slope[k] = rise / (2 * STEP)
        gradients.append(slope)
    return gradients


def native_gradients(
    spec: OpSpec, sample: Sample, backend: str, function: Callable[..., Any] | None = None
) -> list[np.ndarray]:
    """Gradients of the same projection on ``backend``."""
    function = function or spec.function
    arguments = [native(a, backend) for a in sample.args]
    places = differentiable(spec, sample)
    projection = [None if w is None else native(w, backend) for w in weights(spec, sample)]

    def projected(*inputs: Any) -> Any:
        args: Sequence[Any] = arguments
        for place, value in zip(places, inputs):
            args = replaced(args, place, value)
        results = listed(function(*args, **sample.options))
        terms = [ops.sum(r * w) for r, w in zip(results, projection) if w is not None]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    found = ops.grad(projected, [at(arguments, place) for place in places])[1]
    return [ops.to_numpy(g) for g in found]


def compare_gradients(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> None:
    """Fails unless each pair agrees element by element and in direction."""
    assert len(got) == len(want) > 0
    for g, w in zip(got, want):
        assert g.shape == w.shape
        # The absolute part grows with the gradient, as rounding does.
        relative, absolute = TOLERANCES["gradient"]
        scale = max(1.0, float(np.abs(w).max(initial=0)))
        np.testing.assert_allclose(g, w, rtol=relative, atol=absolute * scale)
        lengths = np.linalg.norm(g.astype(np.float64)) * np.linalg.norm(w)
        if lengths > 1e-6:
            assert np.sum(g * w) / lengths >= 0.99999
