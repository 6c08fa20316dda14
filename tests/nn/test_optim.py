"""Optimizers: torch's numbers on both frameworks, and a state that moves between them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frameworks import needs_jittor
from tests.nn.helpers import host, tensor
from unidet.backends import nn, optim, registry

STEPS = 30
RULES = [
    ("sgd", {"lr": 0.05}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-2}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("adam", {"lr": 1e-2, "eps": 1e-3, "weight_decay": 1e-2}),
    ("adamw", {"lr": 1e-2, "betas": (0.8, 0.95)}),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.cls = nn.Conv2d(4, 2, 1)
        self.scale = nn.Parameter(np.ones((), np.float32))
        self.unused = nn.Conv2d(2, 2, 1)
        self.spare = nn.Parameter(np.ones((), np.float32))
        self.silent = nn.Parameter(np.ones(3, np.float32))

    def forward(self, x):
        # `silent` has a gradient and it is zero; `unused` and `spare` have none.
        return self.cls(self.relu(self.norm(self.conv(x)))) * self.scale + (self.silent * 0.0).sum()


class Run:
    """One model in training."""

    def __init__(self, backend: str, name: str, options: dict, **more) -> None:
        self.backend = backend
        self.model = Net(backend=backend)
        self.optimizer = optim.create(name, self.model, **options, **more)

    def loss(self, step: int):
        generator = np.random.default_rng(step)
        x = tensor(self.backend, generator.standard_normal((2, 3, 8, 8)).astype(np.float32))
        y = tensor(self.backend, generator.standard_normal((2, 2, 8, 8)).astype(np.float32))
        difference = self.model(x) - y
        return (difference * difference).mean()

    def train(self, steps, clip: float | None = None, accumulate: int = 1) -> list[float]:
        norms = []
        for step in steps:
            self.optimizer.set_lr_scale(1 / (1 + 0.1 * step))
            for part in range(accumulate):
                self.optimizer.backward(self.loss(step + 1000 * part) * (1 / accumulate))
            if clip is not None:
                norms.append(float(host(self.optimizer.clip_grad_norm(clip)).item()))
            self.optimizer.step()
            self.optimizer.zero_grad()
        return norms

    def arrays(self) -> dict[str, np.ndarray]:
        state = {f"optimizer:{k}": v for k, v in self.optimizer.state_arrays().items()}
        return {**nn.state_arrays(self.model), **state}


def assert_close(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert list(a) == list(b)
    for name in a:
        assert a[name].shape == b[name].shape and a[name].dtype == b[name].dtype, name
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("both")
class TestBothFrameworks:
    @pytest.mark.parametrize(("name", "options"), RULES, ids=str)
    def test_thirty_steps_agree(self, name, options):
        groups = [{"match": "norm", "weight_decay": 0.0}, {"match": ["conv."], "lr": 0.02}]
        runs = [Run(b, name, options, groups=groups) for b in ("torch", "jittor")]
        before = nn.state_arrays(runs[0].model)
        for run in runs:
            run.train(range(STEPS))
        assert_close(runs[0].arrays(), runs[1].arrays())
        after = runs[1].arrays()
        assert (after["conv.weight"] != before["conv.weight"]).any()
        for untouched in ("unused.weight", "unused.bias", "spare"):
            np.testing.assert_array_equal(after[untouched], before[untouched])
        decayed = options.get("weight_decay", 0.01 if name == "adamw" else 0) > 0
        assert (after["silent"] != before["silent"]).all() == decayed

    def test_clipping_and_accumulation_agree(self):
        runs = [Run(b, "adamw", {"lr": 1e-2}) for b in ("torch", "jittor")]
        norms = [run.train(range(6), clip=0.5, accumulate=3) for run in runs]
        np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)
        assert max(norms[0]) > 0.5
        assert_close(runs[0].arrays(), runs[1].arrays())
        assert runs[1].arrays()["optimizer:step/conv.weight"] == 6

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    def test_state_moves_between_frameworks(self, name):
        options = {"lr": 0.02, **({"momentum": 0.9} if name == "sgd" else {})}
        whole = Run("torch", name, options)
        whole.train(range(9))
        previous = None
        for start, backend in ((0, "torch"), (3, "jittor"), (6, "torch")):
            run = Run(backend, name, options)
            if previous is not None:
                nn.load_arrays(run.model, nn.state_arrays(previous.model))
                run.optimizer.load_state_arrays(previous.optimizer.state_arrays())
            run.train(range(start, start + 3))
            previous = run
        assert_close(whole.arrays(), previous.arrays())

    def test_two_frameworks_in_turn_do_not_disturb_each_other(self):
        alone = Run("jittor", "sgd", {"lr": 0.05})
        alone.train(range(4))
        mixed = [Run(b, "sgd", {"lr": 0.05}) for b in ("jittor", "torch")]
        for step in range(4):
            for run in mixed:
                run.train([step])
        for name, value in alone.arrays().items():
            np.testing.assert_array_equal(mixed[0].arrays()[name], value)


def test_accumulated_gradients_are_the_sum(backend):
    parts = []
    for steps in ((0,), (1,), (0, 1)):
        run = Run(backend, "sgd", {"lr": 0.1})
        run.model.eval()
        for step in steps:
            run.optimizer.backward(run.loss(step))
        parts.append({name: host(g) for name, g in run.optimizer.gradients().items()})
    assert "unused.weight" not in parts[0] and "silent" in parts[0]
    for name, value in parts[2].items():
        assert value.shape in (nn.shapes(run.model)[name], (1,))
        np.testing.assert_allclose(value, parts[0][name] + parts[1][name], rtol=1e-4, atol=1e-6)
    run.optimizer.zero_grad()
    assert run.optimizer.gradients() == {}
    before = nn.state_arrays(run.model)
    run.optimizer.step()
    np.testing.assert_array_equal(nn.state_arrays(run.model)["cls.weight"], before["cls.weight"])


def test_clipping_scales_the_gradients(backend):
    run = Run(backend, "sgd", {"lr": 0.1})
    run.optimizer.backward(run.loss(0))
    before = {name: host(g) for name, g in run.optimizer.gradients().items()}
    norm = float(host(run.optimizer.clip_grad_norm(0.1)).item())
    expected = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in before.values()))
    assert norm == pytest.approx(expected, rel=1e-6)
    for name, value in run.optimizer.gradients().items():
        np.testing.assert_allclose(host(value), before[name] * 0.1 / (norm + 1e-6), rtol=1e-5)
    assert float(host(run.optimizer.clip_grad_norm(5.0)).item()) == pytest.approx(0.1, rel=1e-4)
    again = {name: host(g) for name, g in run.optimizer.gradients().items()}
    np.testing.assert_allclose(again["cls.weight"], before["cls.weight"] * 0.1 / norm, rtol=1e-4)


@needs_jittor
def test_norm_of_many_values_is_accurate():
    """Jittor's own float32 sum is 4 % off at this size."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(np.zeros(2_000_000, np.float32))

    model = Wide(backend="jittor")
    optimizer = optim.create("sgd", model, lr=0.1)
    optimizer.backward((model.weight * 0.1).sum())
    assert float(host(optimizer.clip_grad_norm(1e9)).item()) == pytest.approx(
        0.1 * 2e6**0.5, rel=1e-6
    )


def test_nan_gradient_stays_visible(backend):
    run = Run(backend, "sgd", {"lr": 0.1})
    run.optimizer.backward(run.loss(0) * float("nan"))
    assert np.isnan(host(run.optimizer.clip_grad_norm(1.0))).all()
    run.optimizer.step()
    assert np.isnan(nn.state_arrays(run.model)["cls.weight"]).all()


def test_frozen_parameters_rest_until_unfrozen(backend):
    run = Run(backend, "sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1})
    nn.freeze(run.model, "conv.", "norm.")
    before = nn.state_arrays(run.model)
    run.model.eval()
    run.model.train()
    run.train(range(2))
    after = nn.state_arrays(run.model)
    for name in ("conv.weight", "norm.weight", "norm.bias"):
        np.testing.assert_array_equal(after[name], before[name])
    assert (after["cls.weight"] != before["cls.weight"]).all()
    nn.unfreeze(run.model, "conv.")
    run.train([2])
    assert (nn.state_arrays(run.model)["conv.weight"] != before["conv.weight"]).all()
    # Running statistics are data, not parameters: no weight decay and no gradient reach them.
    assert "norm.running_mean" not in run.optimizer.parameters


@needs_jittor
def test_schedules_compile_no_kernels_and_leave_no_graph():
    jt = registry.implementation("jittor", "environment").load()
    run = Run("jittor", "adamw", {"lr": 1e-2})
    run.train(range(3))
    live, kernels = jt.number_of_lived_vars(), len(jt.compiler.__dict__)
    run.train(range(3, 10))
    assert jt.number_of_lived_vars() <= live + 2
    assert len(jt.compiler.__dict__) == kernels


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamx", {}, r"name.*'adamx'.*Did you mean 'adam"),
        ("sgd", {"betas": (0.9, 0.99)}, "Invalid option for sgd.*'betas'"),
        ("sgd", {"momentun": 0.9}, "Did you mean 'momentum'"),
        ("sgd", {"lr": -1}, "lr.*-1"),
        ("sgd", {"nesterov": True}, "nesterov"),
        ("adam", {"betas": (0.9, 1.0)}, "betas"),
        ("adam", {"eps": float("nan")}, "eps"),
        ("sgd", {"groups": [{"match": "backbone."}]}, "match.*'backbone.'"),
        ("sgd", {"groups": [{"match": []}]}, "match"),
        ("sgd", {"groups": [{"match": "conv"}, {"match": "conv."}]}, "earlier groups"),
        ("sgd", {"groups": [{"match": "conv", "lrate": 1}]}, "lrate"),
    ],
)
def test_bad_input_is_named(backend, name, options, message):
    with pytest.raises(ValueError, match=message):
        optim.create(name, Net(backend=backend), **{"lr": 0.1, **options})


def test_bad_state_is_named_and_changes_nothing(backend):
    run = Run(backend, "adam", {"lr": 0.1})
    run.train([0])
    good = run.optimizer.state_arrays()
    wrong_shape = {**good, "exp_avg/cls.bias": np.zeros(3, np.float32)}
    partial = {k: v for k, v in good.items() if k != "step/cls.bias"}
    for arrays, message in (
        ({**good, "exp_avg/nothing": np.zeros(1)}, "exp_avg/nothing"),
        ({"momentum_buffer/cls.bias": np.zeros(2)}, "momentum_buffer"),
        (wrong_shape, r"exp_avg/cls.bias.*\(2,\).*\(3,\)"),
        (partial, "cls.bias.*only"),
    ):
        with pytest.raises(ValueError, match=message):
            run.optimizer.load_state_arrays(arrays)
    for name, value in run.optimizer.state_arrays().items():
        np.testing.assert_array_equal(value, good[name])
    run.optimizer.load_state_arrays({})
    assert run.optimizer.state_arrays() == {}


def test_a_loss_without_parameters_is_refused(backend):
    run = Run(backend, "sgd", {"lr": 0.1})
    nn.freeze(run.model)
    with pytest.raises((ValueError, RuntimeError), match=r"gradient|grad"):
        run.optimizer.backward(run.loss(0))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_norms_can_be_left_out_of_the_decay(backend: str, name: str) -> None:
    groups = [{"match": ["conv"], "lr": 0.5}]
    run = Run(backend, name, {"lr": 0.1, "weight_decay": 0.5}, groups=groups, decay_biases=False)
    before = {n: host(p) for n, p in nn.parameters(run.model).items()}
    # A gradient of zero: what moves has decayed.
    loss = sum((p * 0.0).sum() for p in nn.parameters(run.model).values())
    run.optimizer.backward(loss)
    run.optimizer.step()
    after = {n: host(p) for n, p in nn.parameters(run.model).items()}
    for parameter, value in before.items():
        kept = 0.75 if parameter == "conv.weight" else 0.95 if value.ndim > 1 else 1.0
        np.testing.assert_allclose(after[parameter], value * kept, rtol=1e-6, err_msg=parameter)
    rates = {n: group.lr for group in run.optimizer.groups for n in group.parameters}
    assert rates == {n: 0.5 if n == "conv.weight" else 0.1 for n in before}
