"""Training on real images: torch and Jittor from the same start, and across both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.proofs.curves import apart, curve, judge
from unidet.backends import nn, ops
from unidet.config import Config, load_config
from unidet.engine import train
from unidet.engine.run_folder import RunFolder
from unidet.engine.trainer import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("both")]

#: Steps that make the common start. Fresh weights will not do: there rounding grows by itself, and
#: torch in single precision leaves torch in double precision by 1e-3 within 20 steps of Adam.
START = 100
OPTIMIZERS = {
    "sgd": ["optimizer.name=sgd", "optimizer.lr=0.001", "optimizer.momentum=0.9"],
    "adam": ["optimizer.name=adam", "optimizer.lr=3e-5", "optimizer.weight_decay=0.0"],
}


def config(sample_data: Path, steps: int, *overrides: str) -> Config:
    fixed = [
        f"data.root={sample_data / 'data' / 'bccd'}",
        f"train.max_steps={steps}",
        "train.log_every=1",
        "train.eval_every=0",
        "data.val=[]",
    ]
    return load_config("retinanet_r18_bccd", [*fixed, *overrides])


@pytest.fixture(scope="module")
def start(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for runs that begin with weights which training has reached."""
    folder = tmp_path_factory.mktemp("start")
    train(config(sample_data, START), backend="torch", work_dir=folder, quiet=True)
    weights = f"train.weights={folder / 'last.safetensors'}"
    return [weights, "schedule.kind=constant"]  # others stretch with the number of steps


def run(chosen: Config, folder: Path, backend: str, **options: Any) -> np.ndarray:
    train(chosen, backend=backend, work_dir=folder, quiet=True, **options)
    return curve(folder)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fifty_steps_overlay(
    name: str, sample_data: Path, start: list[str], tmp_path: Path
) -> None:
    chosen = config(sample_data, 50, *start, *OPTIMIZERS[name])
    torch = run(chosen, tmp_path / "torch", "torch")
    jittor = run(chosen, tmp_path / "jittor", "jittor")
    exact = judge(chosen, tmp_path / "judge")
    assert len(torch) == len(jittor) == len(exact) == 50
    print(
        f"\n{name}: loss {torch[0]:.3f} to {torch[-1]:.3f}; torch and Jittor "
        f"{apart(jittor, torch, 20):.1e} apart over 20 steps, {apart(jittor, torch):.1e} over 50; "
        f"from double precision torch {apart(torch, exact, 20):.1e}, {apart(torch, exact):.1e}, "
        f"Jittor {apart(jittor, exact, 20):.1e}, {apart(jittor, exact):.1e}"
    )
    assert np.ptp(torch) > 0.05
    assert apart(jittor, torch, 20) <= 1e-3
    assert apart(jittor, torch) <= 0.02


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("first", "second"), [("torch", "jittor"), ("jittor", "torch")])
def test_a_run_goes_on_with_the_other_framework(
    name: str, first: str, second: str, sample_data: Path, start: list[str], tmp_path: Path
) -> None:
    chosen = [*start, *OPTIMIZERS[name]]
    whole = run(config(sample_data, 40, *chosen), tmp_path / "whole", second)
    run(config(sample_data, 20, *chosen), tmp_path / "moved", first)
    moved = run(config(sample_data, 40, *chosen), tmp_path / "moved", second, resume=True)
    assert len(whole) == len(moved) == 40
    print(f"\n{name}, {first} to {second}: {apart(moved, whole):.1e} from the uninterrupted run")
    assert apart(moved, whole) <= 1e-3


def test_gradients_against_double_precision(
    sample_data: Path, start: list[str], tmp_path: Path
) -> None:
    """No layer of Jittor is further from the truth than rounding explains."""
    chosen = config(sample_data, 1, *start)
    sides: dict[str, dict[str, np.ndarray]] = {}
    for side in ("judge", "jittor"):
        backend = "torch" if side == "judge" else side
        trainer = Trainer(chosen, RunFolder(tmp_path / side), backend=backend, device="cpu")
        trainer.start_from(chosen.train.weights)
        model = trainer.model
        model.train()
        with trainer.loader.epoch(0) as batches:
            batch = next(iter(batches))
        images = ops.asarray(batch.images, like=next(iter(nn.parameters(model).values())))
        if side == "judge":
            model, images = model.double(), ops.cast(images, "float64")
        parts = model.losses(model(images), batch.targets)
        trainer.optimizer.backward(parts["loss_cls"] + parts["loss_box"])
        found = trainer.optimizer.gradients()
        sides[side] = {key: ops.to_numpy(value).astype(float) for key, value in found.items()}
    assert sides["judge"].keys() == sides["jittor"].keys()
    errors = {
        key: float(np.linalg.norm(value - sides["jittor"][key]) / np.linalg.norm(value))
        for key, value in sides["judge"].items()
    }
    worst = max(errors, key=lambda key: errors[key])
    print(
        f"\ngradients: median {np.median(list(errors.values())):.1e}, {worst} {errors[worst]:.1e}"
    )
    assert np.median(list(errors.values())) < 1e-4
    assert errors[worst] < 1e-2
