"""The module system: one class, two frameworks, torch's behaviour on both."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from tests.frameworks import needs_jittor
from tests.nn.helpers import host, tensor
from unidet.backends import nn, registry


class Base(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.scale = nn.Parameter(np.full((), 2.0, np.float32))
        self.register_buffer("offset", np.arange(2, dtype=np.float32))
        self.register_buffer("scratch", np.zeros(2, np.float32), persistent=False)

    def forward(self, x):
        return self.conv(x) * self.scale


class Derived(Base):
    def __init__(self, width: int = 4) -> None:
        super().__init__(width)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 2, 1))

    def forward(self, x):
        return self.head(self.norm(super().forward(x)))

    def initial_values(self, draw):
        return {"head.1.bias": np.full(2, -4.6, np.float32)}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


class TestBoth:
    def test_instances_are_native_and_keep_their_classes(self, backend):
        model = Derived(backend=backend)
        native = {"torch": "torch.nn.modules.module.Module", "jittor": "jittor.Module"}[backend]
        assert native in {f"{c.__module__}.{c.__qualname__}" for c in type(model).__mro__}
        assert isinstance(model, Derived) and isinstance(model, Base)
        assert isinstance(model.conv, nn.Conv2d) and isinstance(model.head[1], nn.Conv2d)
        assert registry.backend_of(model) == registry.backend_of(model.conv) == backend
        assert type(Derived(backend=backend)) is type(model)

    def test_ambient_backend_and_conflict(self, backend):
        with registry.use(backend):
            model = Derived()
        assert registry.backend_of(model.head) == backend
        other = {"torch": "jittor", "jittor": "torch"}[backend]
        with pytest.raises(ValueError, match="framework of this class"):
            type(model)(backend=other)

    def test_parameters_without_buffers_and_tied_once(self, backend):
        model = Derived(backend=backend)
        model.again = model.conv
        names = list(nn.parameters(model))
        assert names == [
            "scale", "conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.1.weight",
            "head.1.bias",
        ]  # fmt: skip
        assert names == [name for name, _ in model.named_parameters()]
        assert [n for n, _ in model.named_buffers()][:2] == ["offset", "scratch"]
        assert "again.weight" in nn.state_arrays(model)
        assert [n for n, _ in model.named_children()] == ["conv", "norm", "head"]
        assert [n for n, _ in model.named_modules()] == [
            "", "conv", "norm", "head", "head.0", "head.1",
        ]  # fmt: skip

    def test_copies_are_complete_and_independent(self, backend, image):
        model = Derived(backend=backend)
        model(tensor(backend, image))
        nn.freeze(model, "conv.")
        before = nn.state_arrays(model)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(twin) is type(model)
            assert list(nn.trainable(twin)) == list(nn.trainable(model))
            nn.load_arrays(twin, {k: v + 1 for k, v in before.items()})
            for name, value in nn.state_arrays(model).items():
                np.testing.assert_array_equal(value, before[name])
        expected = host(model.eval()(tensor(backend, image)))
        nn.load_arrays(twin, before)
        np.testing.assert_array_equal(host(twin.eval()(tensor(backend, image))), expected)

    def test_frozen_parameters_stay_frozen(self, backend):
        model = nn.freeze(Derived(backend=backend), "conv.", "norm.weight")
        left = ["scale", "norm.bias", "head.1.weight", "head.1.bias"]
        assert list(nn.trainable(model)) == left
        for _ in range(2):
            model.eval()
            assert list(nn.trainable(model)) == left
            model.train()
            assert list(nn.trainable(model)) == left
        model.head.eval()
        assert model.training and not model.head.training and not model.head[0].training
        nn.load_arrays(model, nn.state_arrays(model))
        assert list(nn.trainable(model)) == left
        assert len(nn.trainable(nn.unfreeze(model))) == 7
        with pytest.raises(ValueError, match=r"prefixes.*nothing"):
            nn.freeze(model, "nothing")

    def test_hooks_in_order_and_removable(self, backend, image):
        model, seen = Derived(backend=backend), []
        first = model.conv.register_forward_hook(lambda m, args, out: seen.append("first"))
        model.conv.register_forward_hook(lambda m, args, out: seen.append(tuple(out.shape)))
        model.head.register_forward_hook(lambda m, args, out: out * 0)
        result = model(tensor(backend, image))
        assert seen == ["first", (2, 4, 8, 8)] and not host(result).any()
        first.remove()
        first.remove()
        model(tensor(backend, image))
        assert seen[2:] == [(2, 4, 8, 8)]

    def test_strict_load_names_all_and_writes_nothing(self, backend):
        model = Derived(backend=backend)
        before = nn.state_arrays(model)
        arrays = {k: v + 1 for k, v in before.items() if k != "scale"}
        arrays["stray"] = np.zeros(1)
        arrays["conv.bias"] = np.zeros(5)
        with pytest.raises(nn.StateMismatchError) as caught:
            nn.load_arrays(model, arrays)
        message = str(caught.value)
        assert "1 missing: scale" in message and "1 unexpected: stray" in message
        assert "1 mismatched: conv.bias (model (4,), received (5,))" in message
        with pytest.raises((nn.StateMismatchError, RuntimeError)):
            model.load_state_dict({k: tensor(backend, np.array(v)) for k, v in arrays.items()})
        if backend == "jittor":
            for name, value in nn.state_arrays(model).items():
                np.testing.assert_array_equal(value, before[name])
        nn.load_arrays(model, before)
        report = nn.load_arrays(model, arrays, strict=False)
        assert report.missing == ["scale"] and not report.complete
        np.testing.assert_array_equal(nn.state_arrays(model)["offset"], before["offset"] + 1)

    def test_load_keeps_dtypes(self, backend):
        model = Derived(backend=backend)
        nn.load_arrays(model, {k: v.astype(np.float16) for k, v in nn.state_arrays(model).items()})
        arrays = nn.state_arrays(model)
        assert {v.dtype.name for k, v in arrays.items() if "tracked" not in k} == {"float32"}
        assert arrays["norm.num_batches_tracked"].dtype == np.int64
        assert arrays["norm.num_batches_tracked"].shape == arrays["scale"].shape == ()

    def test_state_dict_round_trip(self, backend, image):
        model, twin = Derived(backend=backend), Derived(backend=backend)
        model(tensor(backend, image))
        twin.load_state_dict(model.state_dict())
        a, b = nn.state_arrays(model), nn.state_arrays(twin)
        assert list(a) == list(b) and all((a[k] == b[k]).all() for k in a)
        assert "scratch" not in a

    def test_containers(self, backend):
        layers = nn.ModuleList([nn.Identity(backend=backend) for _ in range(2)], backend=backend)
        layers.append(nn.ReLU(backend=backend))
        assert len(layers) == 3 and isinstance(layers[-1], nn.ReLU)
        assert [type(m).__name__ for m in layers[1:]] == ["Identity", "ReLU"]
        chain = Derived(backend=backend).head
        part = chain[1:]
        assert len(part) == 1 and part[0] is chain[1] and isinstance(part, nn.Sequential)

    def test_wrapping_a_module_does_not_initialize_it_again(self, backend):
        inner = nn.Conv2d(1, 1, 1, backend=backend)
        nn.load_arrays(inner, {"weight": np.full((1, 1, 1, 1), 9.0)}, strict=False)
        outer = nn.Sequential(inner, nn.Conv2d(1, 1, 1, backend=backend), backend=backend)
        arrays = nn.state_arrays(outer)
        assert arrays["0.weight"] == 9 and arrays["1.weight"] != 0

    def test_parameter_checks_dtype(self, backend):
        with registry.use(backend), pytest.raises(ValueError, match="floating"):
            nn.Parameter(np.zeros(2, np.int64))


def test_initial_values_agree_and_follow_torchs_scheme(both):
    arrays = {}
    for name in ("torch", "jittor"):
        with nn.initial_seed(3):
            arrays[name] = nn.state_arrays(Derived(16, backend=name))
    a, b = arrays["torch"], arrays["jittor"]
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype
    bound = 1 / np.sqrt(27)
    weight = a["conv.weight"]
    assert np.abs(weight).max() <= bound and weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert 0 < np.abs(a["conv.bias"]).max() <= bound
    assert (a["head.1.bias"] == np.float32(-4.6)).all() and a["scale"] == 2
    with nn.initial_seed(4):
        other = Derived(16, backend="torch")
    assert (nn.state_arrays(other)["conv.weight"] != weight).any()
    nn.initialize(other, 3)
    np.testing.assert_array_equal(nn.state_arrays(other)["conv.weight"], weight)


def test_initial_seed_none_leaves_zeros_and_torchs_generator_alone():
    torch = pytest.importorskip("torch")
    state = torch.get_rng_state()
    with nn.initial_seed(None):
        model = Derived(backend="torch")
    Derived(backend="torch")
    assert not nn.state_arrays(model)["conv.weight"].any()
    assert torch.equal(state, torch.get_rng_state())


def test_torch_compile_takes_the_whole_model(image):
    torch = pytest.importorskip("torch")
    model = Derived(backend="torch").eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    x = tensor("torch", image)
    torch.testing.assert_close(compiled(x), model(x))


@needs_jittor
def test_jittor_modules_made_under_no_grad_can_be_trained():
    jt = registry.implementation("jittor", "environment").load()
    with jt.no_grad():
        model = Derived(backend="jittor")
    assert len(nn.trainable(model)) == 7


def test_modules_before_the_constructor_are_refused(backend):
    class Early(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 1, 1)
            super().__init__()

    with pytest.raises(AttributeError):
        Early(backend=backend)


@pytest.mark.cpu
def test_torch_infers_channels_last_and_trains_precisely():
    torch = pytest.importorskip("torch")
    with registry.use("torch"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    images = tensor(
        "torch", np.random.default_rng(0).normal(3, 1, (4, 3, 99, 99)).astype(np.float32)
    )
    model.eval()
    with torch.no_grad():
        assert model(images).is_contiguous(memory_format=torch.channels_last)
    model.train()
    inner = model[0](images)
    model[1](inner)
    wanted = inner.detach().double().mean((0, 2, 3))
    # momentum 0.1 from 0; torch's channels-last form is 5e-6 off
    found = model[1].running_mean.double() * 10
    assert (found / wanted - 1).abs().max() < 1e-6
